"""What a container's coming and going leaves in the user's SSH configuration."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from inventory import Host
from provisioner.command import Command, Result
from provisioner.containers.engine import ContainerInfo
from provisioner.containers.facade import (
    HostGpus,
    Wish,
    bring_up,
    check_gpus,
    publish,
    take_down,
)
from provisioner.containers.ssh_fragment import fragment_file
from provisioner.errors import UsageError
from provisioner.home import known_hosts_file
from provisioner.transport.fake import FakeTransport

KEYS = (("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIMiDX33"),)
BOX = ContainerInfo("torch", "rigup-ssh-1000-torch", "running", 22200, "ana", "none", "i", KEYS)
OUTER = Host(name="outer", address="192.0.2.1", user="jump")
INNER = Host(name="inner", address="192.0.2.2", jump="outer", via=OUTER)
LAB = Host(name="lab01", address="192.0.2.7", jump="inner", via=INNER)
OTHER = Host(name="lab02", address="192.0.2.8", jump="outer", via=OUTER)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of its own for rigup and for ssh."""
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path / "rigup"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def aliases() -> list[str]:
    return re.findall(r"(?m)^Host (.*)$", fragment_file().read_text())


def jumps() -> dict[str, str]:
    return dict(
        re.findall(r"(?ms)^Host (\S+)$[^#]*?^  ProxyJump (\S+)$", fragment_file().read_text())
    )


def take(host: Host, name: str = "torch") -> bool:
    return take_down(host, FakeTransport(without_containers), name)


def without_containers(command: Command) -> Result:
    if command.words[:2] == ("docker", "container"):
        return Result(command, 1, b"[]", b"Error: No such container: x")
    return Result(command, 0, b"uid=1000\ngid=1000\nname=ana\nhome=/home/ana\nCapBnd=0\n")


def test_every_hop_on_the_way_gets_a_block(home: Path) -> None:
    publish(LAB, BOX)
    assert set(aliases()) == {"outer", "inner", "lab01", "lab01-torch"}
    assert jumps() == {"inner": "outer", "lab01": "inner", "lab01-torch": "lab01"}
    assert "lab01-torch ssh-ed25519" in known_hosts_file().read_text()
    assert (home / ".ssh" / "config").read_text().startswith("Include ")


def test_publishing_again_changes_nothing() -> None:
    publish(LAB, BOX)
    before = set(fragment_file().read_text().split("\n# BEGIN"))
    publish(LAB, BOX)
    assert set(fragment_file().read_text().split("\n# BEGIN")) == before


def test_the_last_containers_going_takes_the_way_along() -> None:
    publish(LAB, BOX)
    take(LAB)
    assert aliases() == []
    assert "lab01-torch" not in known_hosts_file().read_text()


def test_a_host_stays_while_another_container_of_it_is_there() -> None:
    publish(LAB, BOX)
    publish(LAB, replace(BOX, name="second"))
    take(LAB)
    assert set(aliases()) == {"outer", "inner", "lab01", "lab01-second"}
    take(LAB, "second")
    assert aliases() == []


def test_a_hop_stays_while_another_host_is_reached_through_it() -> None:
    publish(LAB, BOX)
    publish(OTHER, BOX)
    take(LAB)
    assert set(aliases()) == {"outer", "lab02", "lab02-torch"}


def test_a_hop_with_a_container_of_its_own_stays() -> None:
    publish(LAB, BOX)
    publish(INNER, BOX)
    take(LAB)
    assert set(aliases()) == {"outer", "inner", "inner-torch"}


@pytest.mark.parametrize(
    ("asked", "missing"), [("7", "GPU 7"), ("0,7", "GPU 7"), ("all", None), ("GPU-b", "GPU GPU-b")]
)
def test_gpus_that_are_not_there_are_named(asked: str, missing: str | None) -> None:
    there = HostGpus(indices=(0, 1), uuids=("GPU-a",))
    if missing is None:
        check_gpus("lab01", asked, there)
        return
    with pytest.raises(UsageError, match=f"{missing} does not exist on lab01 .it has 0, 1"):
        check_gpus("lab01", asked, there)


def test_all_gpus_of_a_host_without_any_are_refused() -> None:
    check_gpus("lab01", "none", HostGpus())
    check_gpus("lab01", None, HostGpus())
    with pytest.raises(UsageError, match="it has no GPU"):
        check_gpus("lab01", "all", HostGpus())


def test_a_wrong_name_is_refused_before_an_image_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "provisioner.containers.facade.prepare_image", lambda *_: pytest.fail("sent")
    )
    with pytest.raises(UsageError, match="no container name"):
        bring_up(
            LAB,
            FakeTransport(without_containers),
            HostGpus(),
            Wish(name="No Name"),
            public_keys=["ssh-ed25519 AAAA"],
        )
