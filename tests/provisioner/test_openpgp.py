"""Which key is in a key file. The files in tests/cases/keys were made once with GnuPG 2.2 for these
tests; their secret halves are gone."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.openpgp import armored, fingerprints

KEYS = Path(__file__).parents[1] / "cases" / "keys"
RSA = "EDA30D1EDFFCAB85F72A1547275A59131C745E80"
ED25519 = "34D8157F40C80A34B16954AE48D7779D3E887A47"
WITH_SUBKEY = "52016DFBAE01188C65712F90249CEE94687D6F01"


def read(name: str) -> bytes:
    return (KEYS / f"{name}.asc").read_bytes()


def binary(name: str) -> bytes:
    lines = read(name).split(b"\n\n", 1)[1].split(b"\n=")[0].splitlines()
    return base64.b64decode(b"".join(lines))


FILES = [
    ("rsa2048", (RSA,)),
    ("ed25519", (ED25519,)),
    ("with-subkey", (WITH_SUBKEY,)),
    ("two-keys", (RSA, ED25519)),
]


@pytest.mark.parametrize(("name", "expected"), FILES)
def test_armored_and_binary_files(name: str, expected: tuple[str, ...]) -> None:
    assert fingerprints(read(name)) == expected
    assert fingerprints(binary(name)) == expected


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
    assert fingerprints(variant) == (ED25519,)


def test_two_blocks_in_one_file_are_two_keys() -> None:
    assert fingerprints(read("rsa2048") + read("ed25519")) == (RSA, ED25519)


def test_an_armor_without_a_checksum() -> None:
    lines = [line for line in read("rsa2048").splitlines() if not line.startswith(b"=")]
    assert fingerprints(b"\n".join(lines) + b"\n") == (RSA,)


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
    ],
)
def test_no_key_file_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="OpenPGP"):
        fingerprints(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: binary("ed25519") + tail))
def test_whatever_bytes_come_it_is_keys_or_a_value_error(data: bytes) -> None:
    try:
        found = fingerprints(data)
    except ValueError:
        return
    assert found
    assert all(len(fingerprint) in (40, 64) for fingerprint in found)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, len(binary("rsa2048")) - 1), flip=st.integers(1, 255))
def test_no_changed_byte_of_the_key_itself_goes_unnoticed(place: int, flip: int) -> None:
    data = bytearray(binary("rsa2048"))
    data[place] ^= flip
    key_packet_end = 3 + int.from_bytes(data[1:3], "big") if place > 2 else len(data)
    try:
        found = fingerprints(bytes(data))
    except ValueError:
        return
    assert found != (RSA,) or place >= key_packet_end


@pytest.mark.parametrize(("name", "expected"), FILES)
def test_what_is_installed_is_one_block_with_only_the_checked_keys(
    name: str, expected: tuple[str, ...]
) -> None:
    for data in (read(name), binary(name)):
        stored = armored(data)
        assert fingerprints(stored) == expected
        assert stored == read(name), "as GnuPG itself writes it, checksum included"


def test_a_key_that_is_hidden_from_the_check_is_not_installed() -> None:
    """A block that this reader takes for text (a space in its first line) but GnuPG may read."""
    hidden = read("rsa2048").replace(b"BLOCK-----\n", b"BLOCK----- \n", 1)
    both = hidden + read("ed25519")
    assert fingerprints(both) == (ED25519,)
    assert fingerprints(armored(both)) == (ED25519,)
    assert b"BLOCK----- \n" not in armored(both)


@pytest.mark.skipif(shutil.which("gpg") is None, reason="compares with GnuPG")
@pytest.mark.parametrize(("name", "expected"), FILES)
def test_gnupg_agrees(name: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    shown = subprocess.run(
        ["gpg", "--homedir", str(tmp_path), "--show-keys", "--with-colons"],
        input=armored(read(name)),
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert all(f"fpr:::::::::{fingerprint}:" in shown for fingerprint in expected)
    assert shown.count("pub:") == len(expected)
