"""Which key is in a key file. The files in tests/cases/keys were made once with GnuPG 2.2 for these
tests; their secret halves are gone."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.openpgp import MAX_BYTES, read_key

KEYS = Path(__file__).parents[1] / "cases" / "keys"
RSA = "EDA30D1EDFFCAB85F72A1547275A59131C745E80"
ED25519 = "34D8157F40C80A34B16954AE48D7779D3E887A47"
WITH_SUBKEY = "52016DFBAE01188C65712F90249CEE94687D6F01"


def read(name: str) -> bytes:
    return (KEYS / f"{name}.asc").read_bytes()


def binary(name: str) -> bytes:
    lines = read(name).split(b"\n\n", 1)[1].split(b"\n=")[0].splitlines()
    return base64.b64decode(b"".join(lines))


FILES = [("rsa2048", RSA), ("ed25519", ED25519), ("with-subkey", WITH_SUBKEY)]


@pytest.mark.parametrize(("name", "expected"), FILES)
def test_armored_and_binary_files(name: str, expected: str) -> None:
    assert read_key(read(name)).fingerprint == expected
    assert read_key(binary(name)).fingerprint == expected


@pytest.mark.parametrize(
    "variant",
    [
        read("ed25519").replace(b"\n", b"\r\n"),
        read("ed25519").replace(b"BLOCK-----\n", b"BLOCK-----\nVersion: GnuPG v2\nComment: x\n", 1),
        b"# the key of our mirror\n\n" + read("ed25519") + b"\nthank you\n",
    ],
    ids=["CRLF", "armor headers", "text around"],
)
def test_variants_of_armor(variant: bytes) -> None:
    assert read_key(variant).fingerprint == ED25519


@pytest.mark.parametrize(
    "data",
    [
        read("rsa2048") + read("ed25519"),
        read("two-keys"),
        binary("rsa2048") + binary("ed25519"),
        binary("rsa2048") * 2,
        read("rsa2048") + read("rsa2048"),
        read("ed25519").replace(b"BLOCK-----\n", b"BLOCK----- \n", 1) + read("rsa2048"),
    ],
    ids=["blocks", "packets in a block", "binary", "the same twice", "same blocks", "odd block"],
)
def test_two_keys_in_one_file_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"second key|more than one"):
        read_key(data)


def test_an_armor_without_a_checksum() -> None:
    lines = [line for line in read("rsa2048").splitlines() if not line.startswith(b"=")]
    assert read_key(b"\n".join(lines) + b"\n").fingerprint == RSA


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"<html><body>404 Not Found</body></html>",
        b"\x00" * 100,
        b"\xff" * 100,
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----\n",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n-----END PGP PUBLIC KEY BLOCK-----\n",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n",
        read("ed25519").replace(b"PUBLIC", b"PRIVATE"),
        read("ed25519")[:200],
        binary("ed25519")[:-1],
        binary("ed25519")[:20],
        binary("ed25519") + b"\x00",
        b"\x95" + binary("rsa2048")[1:],
        b"\x99\x00\x06\x03" + bytes(5),
        b"\xc6\xe1" + bytes(100),
        b"\x9b" + bytes(100),
        b"\x98\x00",
        read("ed25519").replace(b"\n=", b"\n=A", 1),
        read("ed25519").replace(b"\n=", b"\n=AAAA\n=", 1),
        re.sub(rb"\n=....", b"\n=AAAA", read("ed25519")),
        read("ed25519").replace(b"BLOCK-----\n", b"BLOCK-----\nno header\n", 1),
        b"\x9a\x00\x01\x00\x00\x04" + bytes(0xFFFF),
        binary("rsa2048") + bytes(MAX_BYTES),
        b"\x98\x01\x04" + b"\xb4\x00" * 2_000,
        b"\x98\x01\x04\xb6\x00\x00\x10\x00" + bytes(4096),
    ],
)
def test_no_key_file_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="OpenPGP"):
        read_key(data).self_signed()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: binary("ed25519") + tail))
def test_whatever_bytes_come_it_is_a_key_or_a_value_error(data: bytes) -> None:
    try:
        key = read_key(data)
    except ValueError:
        return
    assert re.fullmatch("[0-9A-F]{40}", key.fingerprint)


@settings(max_examples=200, deadline=None)
@given(
    place=st.integers(0, len(binary("with-subkey")) - 1),
    flip=st.integers(1, 255),
    cut=st.integers(0, 40),
)
def test_what_is_kept_of_a_changed_file_is_signed_by_the_key(
    place: int, flip: int, cut: int
) -> None:
    original = binary("with-subkey")
    changed = bytearray(original)
    changed[place] ^= flip
    del changed[place + 1 : place + 1 + cut]
    try:
        key = read_key(bytes(changed))
        kept = key.self_signed() if key.fingerprint == WITH_SUBKEY else None
    except ValueError:
        return
    bodies = {one.body for one in read_key(original).components}
    assert kept is None or {one.body for one in kept.components} <= bodies


def test_a_hostile_file_of_the_largest_size_takes_no_time() -> None:
    """The walk copied the rest of the file for every packet: 20 to 40 s for 1 MiB."""
    head = binary("rsa2048")
    packets = b"\x88\x0a" + b"\x04\x13\x01\x08\x00\x00\x00\x00\x00\x00"
    copied = _Counting(head + packets * ((MAX_BYTES - len(head)) // len(packets)))
    with pytest.raises(ValueError, match="packets"):
        read_key(copied)
    assert copied.sliced < 4 * MAX_BYTES


class _Counting(bytes):
    """Counts the bytes that slices of it copy."""

    sliced = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.sliced += len(found) if isinstance(found, bytes) else 0
        return found


@pytest.mark.parametrize(("name", "expected"), FILES)
def test_what_is_installed_is_one_block_as_gnupg_itself_writes_it(name: str, expected: str) -> None:
    for data in (read(name), binary(name)):
        stored = read_key(data).self_signed().armored()
        assert read_key(stored).fingerprint == expected
        assert stored == read(name)


@pytest.mark.skipif(shutil.which("gpg") is None, reason="compares with GnuPG")
@pytest.mark.parametrize(("name", "expected"), FILES)
def test_gnupg_agrees(name: str, expected: str, tmp_path: Path) -> None:
    shown = subprocess.run(
        ["gpg", "--homedir", str(tmp_path), "--show-keys", "--with-colons"],
        input=read_key(read(name)).self_signed().armored(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert f"fpr:::::::::{expected}:" in shown
    assert shown.count("pub:") == 1
