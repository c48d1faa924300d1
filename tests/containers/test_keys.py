from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from inventory import Host
from provisioner.containers.keys import authorized_keys, client_public_keys, parse_public_key
from provisioner.errors import UsageError


def public_key(kind: str = "ssh-ed25519", filler: bytes = b"k") -> str:
    name = kind.encode()
    blob = len(name).to_bytes(4, "big") + name + filler * 32
    return f"{kind} {base64.b64encode(blob).decode()}"


def test_comments_are_dropped() -> None:
    key = public_key()
    assert authorized_keys([f"{key} ana@laptop\n"]) == f"{key}\n".encode()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 not-base64!",
        'command="id" ' + public_key(),
        "ssh-rsa " + public_key().split()[1],
        public_key() + "\n" + public_key(filler=b"x"),
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_anything_but_a_plain_public_key_is_refused(line: str) -> None:
    assert parse_public_key(line) is None
    with pytest.raises(UsageError, match="not a public key"):
        authorized_keys([line])


def test_a_named_identity_is_the_only_one(tmp_path: Path) -> None:
    identity = tmp_path / "id"
    identity.write_text("private")
    identity.with_name("id.pub").write_text(public_key() + " me\n")
    host = Host(name="h", address="h", identity_file=identity)
    assert client_public_keys(host, run=lambda words: public_key(filler=b"a")) == (public_key(),)


def test_a_missing_public_half_is_computed(tmp_path: Path) -> None:
    identity = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", identity], check=True)
    expected = parse_public_key(identity.with_name("id.pub").read_text())
    identity.with_name("id.pub").unlink()
    host = Host(name="h", address="h", identity_file=identity)
    assert client_public_keys(host) == (expected,)


def test_no_key_at_all_says_what_to_do(tmp_path: Path) -> None:
    identity = tmp_path / "absent"
    with pytest.raises(UsageError, match="no SSH key") as caught:
        client_public_keys(Host(name="h", address="h", identity_file=identity), run=lambda _: "")
    assert "ssh-keygen" in (caught.value.remedy or "")
