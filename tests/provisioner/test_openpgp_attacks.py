"""A mirror that serves the pinned key and something else in one file, judged by real GnuPG and rpm:
whatever is accepted and written, they see one primary key, and no subkey that it has not signed."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.command import Command, Result
from provisioner.errors import StepFailed
from provisioner.platforms.base import VendorSource
from provisioner.platforms.keys import FetchKey
from provisioner.transport.fake import FakeTransport

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="compares with GnuPG")

KEYS = Path(__file__).parents[1] / "cases" / "keys"
PINNED = "52016DFBAE01188C65712F90249CEE94687D6F01"


def dearmored(text: bytes) -> bytes:
    lines = text.split(b"\n\n", 1)[1].split(b"\n=")[0].splitlines()
    return base64.b64decode(b"".join(lines))


GOOD = dearmored((KEYS / "with-subkey.asc").read_bytes())


class Gpg:
    """GnuPG with a home of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._home = home

    def __call__(self, *words: str, data: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--no-tty", "-q", *words]
        environment = {**os.environ, "LC_ALL": "C"}
        return subprocess.run(command, input=data, capture_output=True, env=environment).stdout

    def stop(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    """A home that holds the attacker's key with its secret half."""
    gpg = Gpg(tmp_path_factory.mktemp("evil") / "g")
    make = ("--passphrase", "", "--pinentry-mode", "loopback", "--quick-gen-key")
    gpg(*make, "evil <evil@example.org>", "ed25519", "default", "never")
    yield gpg
    gpg.stop()


def written(data: bytes) -> bytes | None:
    """What lands on the host; None where the file is refused."""
    url = "https://m.example"
    source = VendorSource("nvidia", url, key_url=f"{url}/key", key_fingerprint=PINNED)
    host = FakeTransport(lambda command: Result(command, 0, _answer(command, data)))
    try:
        FetchKey(source, PurePosixPath("/etc/key.asc"), "fetch").apply(host)
    except StepFailed:
        return None
    return host.commands[-1].stdin


def _answer(command: Command, data: bytes) -> bytes:
    return data if "fetch" in command.words else b""


def imported(key: bytes, home: Path) -> tuple[list[str], list[str]]:
    """Fingerprints of the primary keys and of the subkeys that GnuPG has after the import."""
    gpg = Gpg(home)
    try:
        gpg("--import", data=key)
        told = gpg("--list-keys", "--with-colons", "--with-subkey-fingerprint").decode()
    finally:
        gpg.stop()
        shutil.rmtree(home, ignore_errors=True)  # gpg-agent deletes its sockets meanwhile
    found: dict[str, list[str]] = {"pub": [], "sub": []}
    kind = ""
    for line in told.splitlines():
        fields = line.split(":")
        kind = fields[0] if fields[0] in found else kind
        if fields[0] == "fpr":
            found[kind].append(fields[9])
    return found["pub"], found["sub"]


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body


def split(data: bytes) -> list[tuple[int, bytes]]:
    """Packets in the old format, as GnuPG writes them."""
    packets = []
    while data:
        size = 1 << (data[0] & 3)
        end = 1 + size + int.from_bytes(data[1 : 1 + size], "big")
        packets.append(((data[0] >> 2) & 0x0F, data[1 + size : end]))
        data = data[end:]
    return packets


Make = Callable[[bytes, bytes], bytes]
ATTACKS: dict[str, Make] = {
    "its secret key behind": lambda public, secret: GOOD + secret,
    "its secret key in front": lambda public, secret: secret + GOOD,
    "its public key behind": lambda public, secret: GOOD + public,
    "its public key in front": lambda public, secret: public + GOOD,
    "behind a marker packet": lambda public, secret: GOOD + packet(10, b"PGP") + public,
    "behind an unknown packet": lambda public, secret: GOOD + packet(60, b"x") + secret,
    "in uncompressed compressed data": lambda public, secret: GOOD + packet(8, b"\0" + public),
    "in a packet in parts": lambda public, secret: GOOD + b"\xc8\xe0\0" + packet(8, b"") + public,
    "in a packet without a length": lambda public, secret: GOOD + b"\xa3\0" + public,
    "its primary key as a subkey": lambda public, secret: GOOD + packet(14, split(public)[0][1]),
    "its primary key as a secret subkey": lambda public, secret: (
        GOOD + packet(7, split(secret)[0][1])
    ),
    "its subkey with its binding": lambda public, secret: (
        GOOD + b"".join(packet(*one) for one in split(public)[3:])
    ),
    "its user ID with its signature": lambda public, secret: (
        GOOD + b"".join(packet(*one) for one in split(public)[1:3])
    ),
    "its user ID among the others": lambda public, secret: b"".join(
        packet(*one)
        for one in [*split(GOOD)[:3], *split(public)[1:3], packet_of_attribute(), *split(GOOD)[3:]]
    ),
    "a second armored block": lambda public, secret: armored(GOOD) + armored(public),
    "one block, then binary": lambda public, secret: armored(GOOD) + public,
    "binary, then one block": lambda public, secret: GOOD + armored(public),
    "two armors in one": lambda public, secret: armored(GOOD + secret),
}


def packet_of_attribute() -> tuple[int, bytes]:
    return 17, b"\x05\x01" + bytes(4)


def armored(data: bytes) -> bytes:
    """Without a checksum, which is allowed (RFC 9580, section 6.1)."""
    head, foot = (b"-----%s PGP PUBLIC KEY BLOCK-----\n" % word for word in (b"BEGIN", b"END"))
    return head + b"\n" + base64.encodebytes(data) + foot


@pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)
def test_nothing_of_another_key_is_trusted(make: Make, evil: Gpg, tmp_path: Path) -> None:
    public = evil("--export")
    secret = evil("--passphrase", "", "--pinentry-mode", "loopback", "--export-secret-keys")
    assert public
    assert secret
    stored = written(make(public, secret))
    if stored is None:
        return
    good = imported(GOOD, tmp_path / "good")
    assert imported(stored, tmp_path / "stored") == good
    material = [body[6:] for tag, body in split(public) if tag in (6, 14)]
    assert not any(one in dearmored(stored) for one in material), "not even for other readers"


def test_the_key_itself_is_stored_whole(tmp_path: Path) -> None:
    stored = written(GOOD)
    assert stored == (KEYS / "with-subkey.asc").read_bytes()
    primaries, subkeys = imported(stored, tmp_path / "g")
    assert primaries == [PINNED]
    assert len(subkeys) == 1


def test_gnupg_drops_a_subkey_that_the_key_has_not_signed(evil: Gpg, tmp_path: Path) -> None:
    """So would it be without this check; rpm before 4.17.1 would not (CVE-2021-3521)."""
    spliced = GOOD + packet(14, split(evil("--export"))[0][1])
    assert imported(spliced, tmp_path / "g") == imported(GOOD, tmp_path / "h")


PIECES = st.lists(st.integers(0, len(split(GOOD)) - 1), min_size=1, max_size=7)


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(order=PIECES, others=PIECES, tags=st.dictionaries(st.integers(0, 6), st.integers(1, 63)))
def test_spliced_packets_are_refused_or_one_key_to_gnupg(
    order: list[int], others: list[int], tags: dict[int, int], evil: Gpg, tmp_path: Path
) -> None:
    good, bad = split(GOOD), split(evil("--export"))
    mixed = [good[place] for place in [0, *order]] + [bad[place % len(bad)] for place in others]
    retagged = [(tags.get(place, tag), body) for place, (tag, body) in enumerate(mixed)]
    stored = written(b"".join(packet(*one) for one in retagged))
    if stored is not None:
        primaries, subkeys = imported(stored, tmp_path / "g")
        assert primaries == [PINNED]
        assert set(subkeys) <= set(imported(GOOD, tmp_path / "h")[1])


@pytest.mark.skipif(shutil.which("rpmkeys") is None, reason="compares with rpm")
def test_rpm_imports_one_key(evil: Gpg, tmp_path: Path) -> None:
    stored = written(GOOD + packet(14, split(evil("--export"))[0][1]))
    assert stored is not None
    file, database = tmp_path / "key.asc", str(tmp_path / "db")
    file.write_bytes(stored)
    subprocess.run(["rpmkeys", "--dbpath", database, "--import", str(file)], check=True)
    listed = subprocess.run(
        ["rpm", "--dbpath", database, "-q", "gpg-pubkey", "--qf", "%{VERSION}\n"],
        capture_output=True,
        check=True,
    )
    assert listed.stdout.decode().split() == [PINNED[-8:].lower()]


@pytest.mark.skipif(shutil.which("sqv") is None, reason="compares with Sequoia, apt's verifier")
def test_sequoia_verifies_with_what_is_stored(evil: Gpg, tmp_path: Path) -> None:
    """A signature of the attacker's is refused, also where its key was put in as a subkey."""
    stored = written(GOOD + packet(14, split(evil("--export"))[0][1]))
    assert stored is not None
    keyring, message, signature = (tmp_path / name for name in ("k.asc", "m", "m.sig"))
    keyring.write_bytes(stored)
    message.write_bytes(b"packages")
    signature.write_bytes(evil("--detach-sign", "-o", "-", data=b"packages"))
    done = subprocess.run(
        ["sqv", "--keyring", str(keyring), str(signature), str(message)], capture_output=True
    )
    assert done.returncode != 0
    assert not done.stdout
