"""Whatever the file holds, the answer is an inventory or an InventoryError with a line."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from inventory import Inventory, InventoryError, load_inventory

WORDS = [
    *("hosts", "groups", "defaults", "gpu01", "port", "address", "labels", "mirrors", "docker"),
    *("uri", "container", "mounts", "identity_file", "connect_timeout", "22", "~", "yes", "1:30"),
    *(": ", ":\n  ", ":\n    ", "\n", "\n  ", "\n    ", "- ", "{", "}", "[", "]", ", ", "'", '"'),
    *("&a ", "*a", "<<: ", "!!str ", "!x ", "|\n", ">\n", "? ", "# ", "\t", "---\n", "...\n", "%"),
    *("@", "`", "\\", "\x00", "\x07", "\u2028", "\ufeff", "é", "-o"),
]
yaml_like = st.lists(st.sampled_from(WORDS), max_size=30).map("".join)


def outcome(data: bytes) -> Inventory | InventoryError:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "hosts.yaml"
        path.write_bytes(data)
        try:
            return load_inventory(path, ssh_config=Path(directory) / "none")
        except InventoryError as error:
            return error


def check(data: bytes) -> None:
    result = outcome(data)
    if isinstance(result, InventoryError):
        assert result.path is not None
        assert 1 <= (result.line or 1) <= data.count(b"\n") + data.count(b"\r") + 2
        assert "\n" not in result.message


@settings(deadline=None, max_examples=300)
@given(yaml_like)
def test_text_that_looks_like_yaml(text: str) -> None:
    check(text.encode())


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    check(data)
