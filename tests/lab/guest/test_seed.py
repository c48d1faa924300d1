"""A guest's second disk."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from provisioner.lab.access import prepare
from provisioner.lab.guest.seed import HOST_KEY, make_seed


def test_it_holds_what_makes_a_guest_itself_and_secrets_stay_private(tmp_path: Path) -> None:
    access = prepare(tmp_path / "lab")
    seed = make_seed("guest01", tmp_path, access, "gpu 0 GPU-x 0000:17:00.0\n")
    with tarfile.open(fileobj=io.BytesIO(seed.archive)) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
        modes = {member.name: member.mode for member in archive}
    assert files["etc/hostname"] == b"guest01\n"
    assert files["etc/rigup-lab-gpus.conf"] == b"gpu 0 GPU-x 0000:17:00.0\n"
    assert files["home/admin/.ssh/authorized_keys"].decode().strip() == access.public_key
    assert files["root/passwords"].startswith(b"admin:")
    assert modes[HOST_KEY] == modes["root/passwords"] == 0o600
    assert seed.host_key.encode() in files[f"{HOST_KEY}.pub"]
    assert len(seed.archive) % 512 == 0, "QEMU reads whole sectors"


def test_the_host_key_stays_the_guests_own(tmp_path: Path) -> None:
    access = prepare(tmp_path / "lab")
    first = make_seed("guest01", tmp_path, access, "")
    assert make_seed("guest01", tmp_path, access, "").host_key == first.host_key
    (tmp_path / "other").mkdir()
    assert make_seed("guest01", tmp_path / "other", access, "").host_key != first.host_key
