"""A file's bytes to text, with a clear refusal of everything that is not a small text file."""

from __future__ import annotations

import re
from pathlib import Path

from inventory.errors import InventoryError

LARGEST_FILE = 1024 * 1024
"""Bytes. A thousand hosts with every setting take less than half of it."""

_ODD_BREAK = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Line breaks to YAML or to Python but not to an editor: line numbers would not agree."""

EXAMPLE = "copy inventory/hosts.example.yaml and change it"


def read_text(path: Path) -> str:
    """The file as text without byte order mark; raises InventoryError naming what is wrong."""
    data = _read_bytes(path)
    if len(data) > LARGEST_FILE:
        raise InventoryError("the file is larger than 1 MiB: not an inventory", path=path)
    if b"\0" in data:
        raise InventoryError(
            "the file holds NUL bytes: not a text file",
            path=path,
            line=data[: data.index(b"\0")].count(b"\n") + 1,
            remedy="save it as UTF-8 text",
        )
    text = _decode(data, path)
    _refuse_odd_breaks(text, path)
    return text


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise InventoryError("there is no such file", path=path, remedy=EXAMPLE) from None
    except IsADirectoryError:
        raise InventoryError(
            "this is a directory", path=path, remedy=f"name a file in it: {path / 'hosts.yaml'}"
        ) from None
    except PermissionError:
        raise InventoryError(
            "not readable by you", path=path, remedy="check its owner and mode: ls -l"
        ) from None
    except (OSError, ValueError) as error:
        raise InventoryError(f"cannot be read: {error}", path=path) from None


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InventoryError(
            f"byte 0x{data[error.start]:02x} is not UTF-8 text",
            path=path,
            line=data[: error.start].count(b"\n") + 1,
            remedy="save the file as UTF-8",
        ) from None


def _refuse_odd_breaks(text: str, path: Path) -> None:
    if found := _ODD_BREAK.search(text):
        raise InventoryError(
            f"character U+{ord(found[0]):04X} is not allowed",
            path=path,
            line=text[: found.start()].count("\n") + 1,
            remedy="end lines with a plain newline",
        )
