"""YAML text to nodes that know their file, line and key, so that every complaint names them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from inventory.errors import InventoryError
from inventory.reading import EXAMPLE, read_text

LARGEST_TREE = 200_000
"""Nodes after aliases are followed: a file of nested aliases could stand for billions."""

_SCALARS = {
    "str": "text",
    "timestamp": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}
_STANDARD = "tag:yaml.org,2002:"
_TAB_INDENT = re.compile(r"^ *\t[ \t]*[^\s#]")


@dataclass(frozen=True)
class Node:
    """One YAML value with its place. ``key`` is the dotted way to it, such as ``hosts.a.port``."""

    tree: yaml.Node
    path: Path
    key: str

    @property
    def line(self) -> int:
        return int(self.tree.start_mark.line) + 1

    @property
    def kind(self) -> str:
        """What a person would call it: ``text``, ``a list``, ``nothing`` …"""
        tag = str(self.tree.tag).removeprefix(_STANDARD)
        return _kinds_of(self.tree).get(tag, f"a value tagged {tag}")

    @property
    def raw(self) -> str:
        """A scalar exactly as written (``580`` and ``1e3`` stay what they are)."""
        return str(self.tree.value)

    def shown(self) -> str:
        """The value as an error message shows it."""
        if not isinstance(self.tree, yaml.ScalarNode) or self.kind == "nothing":
            return self.kind
        raw = self.raw if len(self.raw) <= 60 else self.raw[:57] + "..."
        return f"{self.kind} {raw!r}"

    def error(self, message: str, *, remedy: str | None = None) -> InventoryError:
        where = f"{self.key}: " if self.key else ""
        return InventoryError(where + message, path=self.path, line=self.line, remedy=remedy)

    def expected(self, what: str, *, remedy: str | None = None) -> InventoryError:
        return self.error(f"expected {what}, got {self.shown()}", remedy=remedy)

    def entries(self) -> list[tuple[Node, Node]]:
        """A mapping's keys and values; nothing counts as an empty mapping.

        Raises InventoryError for another kind of value, a key that is not plain text, or a key
        that comes twice.
        """
        if self.kind == "nothing":
            return []
        if self.kind != "a mapping":
            raise self.expected("a mapping of keys to values")
        pairs = [self._entry(key, value) for key, value in self.tree.value]
        _refuse_duplicates([key for key, _ in pairs], "key")
        return pairs

    def elements(self) -> list[Node]:
        """A list's values; raises InventoryError for another kind of value."""
        if self.kind != "a list":
            raise self.expected("a list")
        return [
            Node(element, self.path, f"{self.key}[{index}]")
            for index, element in enumerate(self.tree.value)
        ]

    def _entry(self, key: yaml.Node, value: yaml.Node) -> tuple[Node, Node]:
        here = Node(key, self.path, self.key)
        if isinstance(key, yaml.ScalarNode) and key.tag == f"{_STANDARD}merge":
            raise here.error(
                "merge keys (<<) are not supported", remedy="use `defaults` or a group"
            )
        if not isinstance(key, yaml.ScalarNode) or here.kind == "nothing":
            raise here.error(f"expected a name as key, got {here.shown()}")
        name = f"{self.key}.{here.raw}" if self.key else here.raw
        return here, Node(value, self.path, name)


def refuse_repeated(elements: list[Node]) -> None:
    """Raise InventoryError where a list of names holds one twice."""
    _refuse_duplicates(elements, "name")


def parse(path: Path) -> Node:
    """The single YAML document in a file.

    Raises InventoryError for a file that cannot be read, is empty, is not YAML, holds several
    documents, or grows beyond LARGEST_TREE.
    """
    text = read_text(path)
    _refuse_tabs(text, path)
    documents = _compose(text, path)
    if not documents:
        raise InventoryError("the file is empty", path=path, remedy=EXAMPLE)
    if len(documents) > 1:
        raise Node(documents[1], path, "").error(
            "a second document begins here", remedy="keep one document: remove the '---' line"
        )
    root = Node(documents[0], path, "")
    _refuse_explosion(root)
    return root


def _kinds_of(tree: yaml.Node) -> Mapping[str, str]:
    if isinstance(tree, yaml.MappingNode):
        return {"map": "a mapping"}
    return {"seq": "a list"} if isinstance(tree, yaml.SequenceNode) else _SCALARS


def _compose(text: str, path: Path) -> list[yaml.Node]:
    try:
        return list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        raise _translate(error, path) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        message = f"character U+{ord(text[error.position]):04X} is not allowed"
        raise InventoryError(message, path=path, line=line) from None
    except RecursionError:
        raise InventoryError("nested too deeply for an inventory", path=path) from None


def _translate(error: yaml.MarkedYAMLError, path: Path) -> InventoryError:
    mark = error.problem_mark or error.context_mark
    parts = [part for part in (error.context, error.problem) if part]
    column = "" if mark is None else f" (column {mark.column + 1})"
    return InventoryError(
        f"not valid YAML: {', '.join(parts)}{column}",
        path=path,
        line=None if mark is None else mark.line + 1,
        remedy="check indentation, ':' after keys, and quotes around special characters",
    )


def _refuse_tabs(text: str, path: Path) -> None:
    for number, line in enumerate(text.splitlines(), start=1):
        if _TAB_INDENT.match(line):
            raise InventoryError(
                "a tab in the indentation: YAML takes spaces only",
                path=path,
                line=number,
                remedy="replace the tab by spaces",
            )


def _refuse_duplicates(names: list[Node], what: str) -> None:
    seen: dict[str, int] = {}
    for name in names:
        if name.raw in seen:
            raise name.error(
                f"{what} {name.raw!r} comes twice (first on line {seen[name.raw]})",
                remedy="keep one of them",
            )
        seen[name.raw] = name.line


def _refuse_explosion(root: Node) -> None:
    left = LARGEST_TREE
    waiting = [root.tree]
    while waiting:
        node = waiting.pop()
        left -= 1
        if left < 0:
            raise Node(node, root.path, "").error(
                "too many values, perhaps by aliases of aliases: not an inventory"
            )
        waiting.extend(_children(node))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
