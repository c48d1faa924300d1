"""Frozen dataclasses to JSON objects and back, checked: type, range and length of every field."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple, Type, TypeVar, Union, get_type_hints

T = TypeVar("T", bound="Value")

MAX_TEXT = 4 << 20
"""Characters of one text."""
MAX_ITEMS = 200_000
"""Of one list or object."""
MAX_INT = 1 << 63
MAX_FLOAT = 1e18
MAX_TIME = 253_402_300_799.0
"""The last second of the year 9999: later than that, no calendar function works."""
MAX_JSON = 16 << 20
"""Bytes of one document. One character of four bytes makes Python store a whole text as such, twice
while it is read: that is eight times as much memory. 10,000 jobs have 6 MB."""
MAX_TOKENS = 2_000_000
"""Lists, objects, texts and commas of one JSON document: 10,000 jobs have 600,000. A token takes up
to 64 bytes in memory, and a document of 16 MiB could hold 5 million."""

Check = Callable[[Any, str], Any]
"""Takes a JSON value and the name of its place; gives the field's value. Raises ProtocolError."""


class ProtocolError(Exception):
    """The other side said something that this side cannot understand."""


class Value:
    """Mixin of the protocol's frozen dataclasses.

    ``from_json`` ignores keys it does not know (an older side may read a newer one) and raises
    ProtocolError where a required key is missing, or where a value is not of the annotated type,
    or too large. Numbers are finite. Understood types: str, bool, int, float, bytes, Any, other
    Values, and Optional, Tuple[X, ...] and Dict[str, X] of them.
    """

    def to_json(self) -> Dict[str, Any]:
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls: Type[T], data: Any) -> T:
        if not isinstance(data, dict):
            raise ProtocolError("%s: expected an object, got %s" % (cls.__name__, _kind(data)))
        known = {}
        for name, required, check in _plan(cls):
            if name in data:
                known[name] = check(data[name], name)
            elif required:
                raise ProtocolError("%s: missing key %r" % (cls.__name__, name))
        value = cls(**known)
        value.check()
        return value

    def check(self) -> None:
        """Raise ProtocolError where the values are of the right types and make no sense."""


def parse_json(text: bytes, most: int = MAX_JSON, most_tokens: int = MAX_TOKENS) -> Any:
    """A JSON document from the other side. Raises ProtocolError for anything else, for numbers
    that JSON does not have, and for one that is over ``most`` bytes or would take much memory."""
    if len(text) > most:
        raise ProtocolError("a JSON document of over %d bytes" % most)
    tokens = text.count(b"[") + text.count(b"{") + text.count(b",") + text.count(b'"') // 2
    if tokens > most_tokens:
        raise ProtocolError("a JSON document of more than %d items" % most_tokens)
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ProtocolError("expected JSON, got something else") from None


def check_time(value: Optional[float], name: str) -> None:
    """Raises ProtocolError for what is no moment, in seconds since the epoch."""
    if value is not None and not 0 <= value <= MAX_TIME:
        raise ProtocolError("%s: %r is not a time" % (name, value))


def check_count(value: Optional[float], name: str, most: float = MAX_INT) -> None:
    """Raises ProtocolError for a size or number that is negative or above ``most``."""
    if value is not None and not 0 <= value <= most:
        raise ProtocolError("%s: %r is out of range" % (name, value))


def _no_number(text: str) -> None:
    raise ValueError("%s is not JSON" % text)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return value.to_json()  # type: ignore[union-attr]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


Plan = List[Tuple[str, bool, Check]]
_PLANS: Dict[type, Plan] = {}


def _plan(cls: type) -> Plan:
    """(name, whether it must be there, its check) of every field; made once a class."""
    plan = _PLANS.get(cls)
    if plan is None:
        hints = get_type_hints(cls)
        plan = _PLANS[cls] = [
            (
                f.name,
                f.default is MISSING and f.default_factory is MISSING,
                _check_for(hints[f.name]),
            )
            for f in fields(cls)
        ]
    return plan


def _check_for(hint: Any) -> Check:
    if hint is Any:
        return _anything
    if hint in _SCALARS:
        return _SCALARS[hint]
    if isinstance(hint, type) and issubclass(hint, Value):
        return _value(hint)
    origin: Any = getattr(hint, "__origin__", None)
    parameters: Any = getattr(hint, "__args__", ())
    if origin is Union:
        return _optional(_check_for(parameters[0]))
    if origin is tuple:
        return _sequence(_check_for(parameters[0]))
    if origin is dict:
        return _mapping(_check_for(parameters[1]))
    raise TypeError("no check for values of type %r" % (hint,))


def _anything(value: Any, name: str) -> Any:
    return value


def _text(value: Any, name: str) -> str:
    if type(value) is not str:
        raise _wrong(name, "a text", value)
    if len(value) > MAX_TEXT:
        raise ProtocolError("%s: a text of %d characters is too long" % (name, len(value)))
    return value


def _truth(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise _wrong(name, "true or false", value)
    return value


def _whole(value: Any, name: str) -> int:
    if type(value) is not int:
        raise _wrong(name, "a whole number", value)
    if abs(value) >= MAX_INT:
        raise ProtocolError("%s: the number is too large" % name)
    return value


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float):
        raise _wrong(name, "a number", value)
    if not -MAX_FLOAT <= value <= MAX_FLOAT:  # also what is no number; no int is too large for it
        raise ProtocolError("%s: the number is too large" % name)
    result: float = value
    return result


def _bytes(value: Any, name: str) -> bytes:
    if type(value) is not bytes:
        raise _wrong(name, "bytes", value)
    return value


_SCALARS: Dict[Any, Check] = {str: _text, bool: _truth, int: _whole, float: _number, bytes: _bytes}


def _value(kind: Type[Value]) -> Check:
    return lambda value, name: kind.from_json(value)


def _optional(inner: Check) -> Check:
    return lambda value, name: None if value is None else inner(value, name)


def _sequence(inner: Check) -> Check:
    def check(value: Any, name: str) -> Tuple[Any, ...]:
        if type(value) not in (list, tuple):
            raise _wrong(name, "a list", value)
        _limit(value, name)
        return tuple([inner(item, name) for item in value])

    return check


def _mapping(inner: Check) -> Check:
    def check(value: Any, name: str) -> Dict[str, Any]:
        if type(value) is not dict:
            raise _wrong(name, "an object", value)
        _limit(value, name)
        return {_text(key, name): inner(item, name) for key, item in value.items()}

    return check


def _limit(value: Any, name: str) -> None:
    if len(value) > MAX_ITEMS:
        raise ProtocolError("%s: %d items are too many" % (name, len(value)))


def _wrong(name: str, expected: str, value: Any) -> ProtocolError:
    return ProtocolError("%s: expected %s, got %s" % (name, expected, _kind(value)))


def _kind(value: Any) -> str:
    """The JSON name of a value's type."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    return names.get(type(value), "an object" if isinstance(value, dict) else "a list")
