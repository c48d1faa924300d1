"""Files that are no inventory at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory import InventoryError
from inventory.reading import LARGEST_FILE, read_text


def refusal(path: Path) -> str:
    with pytest.raises(InventoryError) as caught:
        read_text(path)
    return str(caught.value)


def test_missing(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none.yaml")
    assert "no such file" in message
    assert "hosts.example.yaml" in message


def test_directory(tmp_path: Path) -> None:
    assert "directory" in refusal(tmp_path)


def test_beneath_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be read" in refusal(tmp_path / "file" / "hosts.yaml")


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "not readable by you" in refusal(tmp_path / "hosts.yaml")


@pytest.mark.parametrize(
    ("data", "line", "fragment"),
    [
        (b"hosts:\n  a\0b:\n", 2, "NUL"),
        (b"\x7fELF\x02\x01\x01\0", 1, "NUL"),
        ("hosts:\n".encode("utf-16"), 1, "not"),
        (b"hosts:\n  caf\xe9:\n", 2, "0xe9 is not UTF-8"),
        ("hosts:\n  a\u2028b:\n".encode(), 2, "U+2028"),
        (b"#" * (LARGEST_FILE + 1), 1, "larger than 1 MiB"),
    ],
    ids=["nul", "binary", "utf-16", "latin-1", "odd line break", "huge"],
)
def test_not_a_small_text_file(tmp_path: Path, data: bytes, line: int, fragment: str) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_bytes(data)
    message = refusal(path)
    assert message.startswith(f"{path}:{line}: ")
    assert fragment in message


def test_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_bytes(b"\xef\xbb\xbfhosts:\r\n  a:\r\n")
    assert read_text(path) == "hosts:\r\n  a:\r\n"
