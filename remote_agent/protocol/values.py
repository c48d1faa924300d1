"""Frozen dataclasses to JSON objects and back, checked."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, ClassVar, Dict, Type, TypeVar

T = TypeVar("T", bound="Value")


class ProtocolError(Exception):
    """The other side said something that this side cannot understand."""


class Value:
    """Mixin of the protocol's frozen dataclasses.

    ``from_json`` ignores keys it does not know (an older side may read a newer one) and raises
    ProtocolError where a required key is missing. Nested values are named in ``_nested``:
    field name -> Value class; a list of them where the JSON holds a list.
    """

    _nested: ClassVar[Dict[str, Any]] = {}

    def to_json(self) -> Dict[str, Any]:
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls: Type[T], data: Any) -> T:
        if not isinstance(data, dict):
            raise ProtocolError(
                "%s: expected an object, got %r" % (cls.__name__, type(data).__name__)
            )
        known = {}
        for f in fields(cls):  # type: ignore[arg-type]
            if f.name in data:
                known[f.name] = _build(cls._nested.get(f.name), data[f.name])
            elif f.default is MISSING and f.default_factory is MISSING:
                raise ProtocolError("%s: missing key %r" % (cls.__name__, f.name))
        return cls(**known)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return value.to_json()  # type: ignore[union-attr]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _build(kind: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(kind.from_json(item) for item in value) if kind else tuple(value)
    if kind is None or value is None:
        return value
    return kind.from_json(value)
