"""How an image gets to a host, with a real engine, a registry and SSH."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from lab_program import LabHostShell, Rigup, wait_for
from static_registry import StaticRegistry, serving

from inventory import Host
from inventory.loader import load_inventory
from provisioner.command import Command
from provisioner.containers.image_supply import (
    DockerLook,
    WantedImage,
    look_script,
    parse_look,
    plan_supply,
)
from provisioner.containers.registry import PullAnswer, ask_registry
from provisioner.containers.shipping import local_size, send_image
from provisioner.errors import ConnectionLost, RigupError
from provisioner.lab.recipe import tar_of
from provisioner.transport.base import Session, Transport
from provisioner.transport.local import LocalTransport
from provisioner.transport.ssh import SshTransport
from remote_agent.protocol.job import ImagePlan

pytestmark = pytest.mark.e2e

HERE = Host(name="here", address="127.0.0.1")
SENT = "rigup-test/sent:1"
SENT_BYTES = 40 << 20
ARRIVING = "/home/lab/arriving"


def docker(*words: str, data: bytes | None = None) -> str:
    done = subprocess.run(["docker", *words], input=data, capture_output=True, check=True)
    return done.stdout.decode()


def look(transport: Transport, *references: str) -> DockerLook:
    return parse_look(transport.run(Command.sh(look_script())).text, references)


@pytest.fixture
def registry() -> Iterator[StaticRegistry]:
    with serving(StaticRegistry("amd64", "arm64")) as one:
        yield one
        subprocess.run(["docker", "rmi", "--force", one.reference()], capture_output=True)


def test_a_real_engine_tells_what_can_be_pulled(registry: StaticRegistry) -> None:
    here = LocalTransport()
    found = ask_registry(here, registry.reference())
    assert found == PullAnswer(True, registry.layer_sizes["amd64"])
    assert ask_registry(here, f"{registry.address}/team/image:2").can_pull is False
    unreachable = ask_registry(here, "127.0.0.1:1/team/image:1")
    assert unreachable.can_pull is False
    assert "connection refused" in unreachable.reason


def test_what_the_plan_says_brings_the_image(registry: StaticRegistry) -> None:
    here, reference = LocalTransport(), registry.reference()
    wanted = WantedImage(reference, "", "asked for")
    before = look(here, reference)
    assert before.usable
    assert before.free_bytes
    assert not before.has(reference)
    supply = plan_supply(HERE, here, wanted, before)
    size = registry.layer_sizes["amd64"]
    assert supply.plan == ImagePlan(pull=reference, size=3 * size)
    docker("pull", str(supply.plan.pull))
    after = look(here, reference)
    assert after.has(reference)
    assert plan_supply(HERE, here, wanted, after).plan is None


def test_neither_here_nor_there_is_refused(registry: StaticRegistry) -> None:
    wanted = WantedImage("127.0.0.1:1/team/image:1", "", "asked for")
    with pytest.raises(RigupError, match=r"(?s)does not have it.*connection refused"):
        plan_supply(HERE, LocalTransport(), wanted, look(LocalTransport()))


@pytest.fixture
def image() -> Iterator[str]:
    """An image of this machine that no registry has; what is in it cannot be compressed."""
    dockerfile = b"FROM scratch\nCOPY content /content\n"
    context = tar_of({"Dockerfile": dockerfile, "content": os.urandom(SENT_BYTES)})
    docker("build", "--quiet", "--tag", SENT, "-", data=context)
    yield SENT
    docker("rmi", "--force", SENT)


@pytest.fixture
def lab(provisioned: Rigup, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshTransport]:
    """A connection to lab01, which does not have the image."""
    monkeypatch.setenv("RIGUP_HOME", str(provisioned.home))
    inventory = load_inventory(provisioned.home / "lab" / "hosts.yaml")
    transport = SshTransport(inventory.hosts["lab01"])
    forget = Command.sh(f"docker rmi --force {SENT} >/dev/null 2>&1; rm -f {ARRIVING}")
    transport.run(forget)
    yield transport
    transport.run(forget)
    transport.close()


def test_a_host_without_a_registry_gets_it_from_here(lab: SshTransport, image: str) -> None:
    host = Host(name="lab01", address="192.0.2.1")
    wanted = WantedImage(image, "", "asked for")
    supply = plan_supply(host, lab, wanted, look(lab, image))
    assert supply.plan is not None
    assert (supply.sends, supply.size) == (image, local_size(image))
    assert "@" in supply.plan.sender
    send_image(lab, image, arriving=ARRIVING)
    assert look(lab, image).has(image)
    arrived = int(lab.run(Command.of("cat", ARRIVING)).text)
    assert abs(arrived - supply.size) < 1 << 20


class BreakingSession:
    """Passes everything on, and breaks the link after a frame for which ``breaks`` is true."""

    def __init__(self, session: Session, breaks: Callable[[bytes], bool], end: Callable[[], None]):
        self._session, self._breaks, self._end = session, breaks, end

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def write(self, data: bytes) -> None:
        self._session.write(data)
        if self._breaks(data):
            self._end()
            raise ConnectionLost("the link broke", host="lab01")


def break_after(
    lab: SshTransport, monkeypatch: pytest.MonkeyPatch, breaks: Callable[[bytes], bool]
) -> None:
    whole = lab.open_session

    def opened(command: Command) -> BreakingSession:
        return BreakingSession(whole(command), breaks, lab.close)

    monkeypatch.setattr(lab, "open_session", opened)


def receivers(shell: LabHostShell) -> str:
    return shell.run("pgrep -f '[d]ocker load' || true").strip()


def test_a_link_that_breaks_after_the_last_byte_does_no_harm(
    lab: SshTransport,
    image: str,
    monkeypatch: pytest.MonkeyPatch,
    shell: Callable[[str], LabHostShell],
) -> None:
    there = shell("lab01")

    def is_last_and_has_arrived(frame: bytes) -> bool:
        if frame[:4] != bytes(4):
            return False
        count = str(int.from_bytes(frame[4:12], "big"))
        wait_for(lambda: there.run(f"cat {ARRIVING} || true") == count, "the last byte")
        return True

    break_after(lab, monkeypatch, is_last_and_has_arrived)
    with suppress(RigupError):
        send_image(lab, image, arriving=ARRIVING)
    wait_for(lambda: not receivers(there), "the load")
    assert there.run(f"docker image inspect --format ok {image}").strip() == "ok"


def test_a_link_that_breaks_before_loads_nothing(
    lab: SshTransport,
    image: str,
    monkeypatch: pytest.MonkeyPatch,
    shell: Callable[[str], LabHostShell],
) -> None:
    count = iter(range(1000))
    break_after(lab, monkeypatch, lambda _: next(count) == 20)
    with pytest.raises(RigupError):
        send_image(lab, image, arriving=ARRIVING)
    there = shell("lab01")
    wait_for(lambda: not receivers(there), "the end of the load")
    assert there.run(f"docker image inspect {image} 2>/dev/null || true").strip() == "[]"
    assert 0 < int(there.run(f"cat {ARRIVING}")) < SENT_BYTES
