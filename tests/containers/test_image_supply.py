"""Which image a job gets, and how it gets to the host."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from inventory import ContainerSettings, Host, Mirrors
from provisioner.command import Command, Result
from provisioner.containers import build, image_supply, shipping
from provisioner.containers.build import build_words, inputs_for, recipe
from provisioner.containers.facade import HostGpus
from provisioner.containers.image_supply import (
    BUILD_BYTES,
    DockerLook,
    WantedImage,
    plan_supply,
    wanted_image,
)
from provisioner.errors import BlockedError, ExitCode, RigupError
from provisioner.transport.fake import FakeTransport
from remote_agent.protocol.job import ImagePlan

GIB = 1 << 30
HOST = Host(name="lab01", address="192.0.2.7")
REAL = HostGpus("580.95.05", ("9.0",), indices=(0,))
BASE = "pytorch/pytorch:2.14.0-cuda13.0-cudnn9-runtime"
BUILT = recipe(inputs_for(BASE, Mirrors())).reference
ON_BASE = WantedImage(BUILT, BASE, "it fits")
AS_IT_IS = WantedImage("team/image:1", "", "container.image of the inventory")
PRACTICE = WantedImage("rigup/pytorch-cpu:1", "", "no GPU", practice=True)
LOOK = DockerLook(usable=True, free_bytes=900 * GIB, root="/var/lib/docker", machine="x86_64")
SENDER = f"me@{os.uname().nodename}"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The images of this machine's Docker, with their sizes."""
    images: dict[str, int] = {}
    monkeypatch.setattr(image_supply, "local_size", images.get)
    monkeypatch.setattr(image_supply, "local_architecture", lambda _: "amd64")
    monkeypatch.setattr(image_supply, "practice_reference", lambda: PRACTICE.reference)
    monkeypatch.setattr(image_supply.getpass, "getuser", lambda: "me")
    monkeypatch.setattr(
        image_supply, "build_local_image", lambda _: pytest.fail("built without need")
    )
    monkeypatch.setattr(shipping.shutil, "which", lambda _: "/usr/bin/docker")
    return images


def registry(status: int = 200, said: str = "", size: int | None = None) -> FakeTransport:
    """A host whose Docker answers that about every image in a registry."""

    def answer(command: Command) -> Result:
        if command.words[:4] == ("docker", "image", "inspect", "--format"):
            return Result(command, 1, b"", b"Error: No such image: x")
        assert command.words[0] == "python3"
        layers = [] if size is None else [{"size": size}]
        manifest = json.dumps({"layers": layers}) if status == 200 else ""
        told = {"status": status, "engine_said": said, "client_said": "", "machine": "x86_64"}
        return Result(command, 0, json.dumps({**told, "manifest": manifest}).encode())

    return FakeTransport(answer, host_name="lab01")


NO_ROUTE = "dial tcp: lookup registry-1.docker.io: no such host"


def asked(transport: FakeTransport) -> list[str]:
    return [command.words[-1] for command in transport.commands]


@pytest.mark.parametrize(
    ("image", "running", "gpus", "expected"),
    [
        ("team/image:1", ("mine:2",), REAL, AS_IT_IS),
        (None, ("mine:2", "mine:1"), REAL, ("mine:2", "", "the image of your running container")),
        (None, (), HostGpus(), (PRACTICE.reference, "", "it has no GPU: the practice image")),
        (
            None,
            (),
            HostGpus("580.95.05", ("9.0",), simulated=True),
            (PRACTICE.reference, "", "its GPUs are SIMULATED: the practice image"),
        ),
        (None, (), REAL, (BUILT, BASE, "the newest image whose CUDA 13.0 runs on driver 580")),
    ],
)
def test_the_wanted_image(
    image: str | None, running: tuple[str, ...], gpus: HostGpus, expected: Any
) -> None:
    host = replace(HOST, container=ContainerSettings(image=image))
    wanted = wanted_image(host, gpus, running)
    reference, base, why = (
        (expected.reference, expected.base, expected.why)
        if isinstance(expected, WantedImage)
        else expected
    )
    assert (wanted.reference, wanted.base) == (reference, base)
    assert wanted.why.startswith(why)
    assert wanted.practice is (reference == PRACTICE.reference)


def test_where_no_image_fits_it_is_said_as_the_resolver_does() -> None:
    with pytest.raises(BlockedError, match="no image in the catalogue"):
        wanted_image(HOST, HostGpus("390.10", ("3.5",)))


def test_the_host_s_mirrors_are_part_of_the_built_image_s_name() -> None:
    mirrored = replace(HOST, mirrors=Mirrors(python_index="https://pypi.example/simple"))
    assert wanted_image(mirrored, REAL).reference != BUILT


@pytest.mark.parametrize("wanted", [ON_BASE, AS_IT_IS, PRACTICE])
def test_an_image_that_is_there_needs_nothing(wanted: WantedImage) -> None:
    host = registry()
    supply = plan_supply(HOST, host, wanted, replace(LOOK, images=frozenset({wanted.reference})))
    assert (supply.image, supply.plan, supply.sends) == (wanted.reference, None, None)
    assert supply.said == (f"lab01 has {wanted.reference}",)
    assert host.commands == []


def test_a_host_that_reaches_the_registry_does_it_alone() -> None:
    supply = plan_supply(HOST, registry(size=3 * GIB), ON_BASE, LOOK)
    plan = supply.plan
    assert plan is not None
    assert supply.context is not None
    assert (plan.base, plan.pull, plan.sender) == (BASE, BASE, "")
    assert plan.build == hashlib.sha256(supply.context).hexdigest()
    assert plan.size == 9 * GIB + BUILD_BYTES
    assert (supply.size, supply.sends) == (3 * GIB, None)
    assert supply.said == (
        f"lab01 pulls {BASE} (3.0 GiB, 9.0 GiB unpacked) and builds {BUILT} on it; this machine is "
        "not needed for that",
    )


def test_the_build_on_the_host_is_the_one_that_container_up_makes() -> None:
    mirrors = Mirrors(http_proxy="http://ana:secret@proxy.example:3128")
    host = replace(HOST, mirrors=mirrors)
    supply = plan_supply(host, registry(size=1), ON_BASE, LOOK)
    assert supply.plan is not None
    assert supply.context is not None
    words = build_words("r", inputs_for(BASE, mirrors), "-")
    pairs = {word for word in words if "=" in word}
    assert {f"{name}={value}" for name, value in supply.plan.build_args.items()} == pairs
    assert "secret" not in repr(supply)
    with tarfile.open(fileobj=io.BytesIO(supply.context)) as context:
        assert {"Dockerfile", "install.sh", "entrypoint.sh", "pip.conf"} <= set(context.getnames())


def test_an_image_used_as_it_is_is_pulled_through_the_mirror() -> None:
    host = replace(HOST, mirrors=Mirrors(container_registry="mirror.example:5000/hub"))
    transport = registry(size=GIB)
    supply = plan_supply(host, transport, AS_IT_IS, LOOK)
    assert supply.plan == ImagePlan(pull="mirror.example:5000/hub/team/image:1", size=3 * GIB)
    assert supply.context is None
    assert asked(transport) == ["mirror.example:5000/hub/team/image:1"]


PINNED = "pytorch/pytorch@sha256:" + "a" * 64


def test_an_image_pinned_by_digest_keeps_the_mirrors_name() -> None:
    """Docker gives no image a second name by digest."""
    mirrors = Mirrors(container_registry="mirror.example:5000/hub")
    host = replace(HOST, container=ContainerSettings(image=PINNED), mirrors=mirrors)
    wanted = wanted_image(host, REAL)
    supply = plan_supply(host, registry(), wanted, LOOK)
    assert supply.plan is not None
    assert (
        supply.image == wanted.reference == supply.plan.pull == f"mirror.example:5000/hub/{PINNED}"
    )


def test_an_image_pinned_by_digest_cannot_be_sent(here: dict[str, int]) -> None:
    """`docker load` would give it no name, and the job would wait for it in vain."""
    here[PINNED] = GIB
    with pytest.raises(RigupError, match="pinned by digest"):
        plan_supply(HOST, registry(500, NO_ROUTE), WantedImage(PINNED, "", ""), LOOK)
    with pytest.raises(RigupError, match="pinned by digest"):
        shipping.send_image(registry(), PINNED)


@pytest.mark.parametrize("name", ["rigup/pytorch:1", "docker.io/rigup/pytorch:1"])
@pytest.mark.parametrize("mirror", [None, "mirror.example:5000"])
def test_an_image_that_rigup_made_is_looked_for_in_no_registry(
    here: dict[str, int], name: str, mirror: str | None
) -> None:
    """Whoever owns that name there would run programs on the host."""
    host = replace(HOST, mirrors=Mirrors(container_registry=mirror))
    transport = registry(size=GIB)
    with pytest.raises(RigupError, match="is in no registry"):
        plan_supply(host, transport, WantedImage(name, "", ""), LOOK)
    with pytest.raises(RigupError, match="is in no registry"):
        shipping.ensure_image(transport, name, mirror=mirror)
    assert {command.words[1] for command in transport.commands} == {"image"}
    here[name] = GIB
    assert plan_supply(host, transport, WantedImage(name, "", ""), LOOK).sends == name


def test_a_base_that_is_there_is_only_built_upon() -> None:
    host = registry(500, NO_ROUTE)
    supply = plan_supply(HOST, host, ON_BASE, replace(LOOK, images=frozenset({BASE})))
    assert supply.plan is not None
    assert (supply.plan.base, supply.plan.pull, supply.size) == (BASE, BASE, 0)
    assert supply.plan.build is not None
    assert host.commands == []


def test_what_the_host_cannot_pull_is_sent_from_here(here: dict[str, int]) -> None:
    here["team/image:1"] = 2 * GIB
    supply = plan_supply(HOST, registry(500, NO_ROUTE), AS_IT_IS, LOOK)
    assert supply.plan == ImagePlan(sender=SENDER, size=2 * GIB)
    assert (supply.sends, supply.size) == ("team/image:1", 2 * GIB)
    assert supply.said == (
        f"lab01 cannot pull team/image:1: {NO_ROUTE}",
        "team/image:1 (2.0 GiB) is sent from here to lab01; keep this machine connected until the "
        "job id is printed",
    )


def test_a_base_of_this_machine_is_sent_and_built_upon_there(here: dict[str, int]) -> None:
    here[BASE] = 2 * GIB
    supply = plan_supply(HOST, registry(500, NO_ROUTE), ON_BASE, LOOK)
    assert supply.plan is not None
    assert supply.context is not None
    assert (supply.plan.base, supply.plan.sender, supply.plan.pull) == (BASE, SENDER, None)
    assert supply.plan.build == hashlib.sha256(supply.context).hexdigest()
    assert supply.sends == BASE
    assert "then builds" in supply.said[-1]


def test_the_finished_image_is_sent_rather_than_its_base(here: dict[str, int]) -> None:
    here.update({BASE: 2 * GIB, BUILT: 4 * GIB})
    supply = plan_supply(HOST, registry(500, NO_ROUTE), ON_BASE, LOOK)
    assert supply.plan == ImagePlan(sender=SENDER, size=4 * GIB)
    assert (supply.sends, supply.context) == (BUILT, None)


@pytest.mark.parametrize(
    ("program", "why_not_here"), [("/usr/bin/docker", "does not have it"), (None, "not installed")]
)
def test_neither_way_gives_both_reasons(
    monkeypatch: pytest.MonkeyPatch, program: str | None, why_not_here: str
) -> None:
    monkeypatch.setattr(shipping.shutil, "which", lambda _: program)
    with pytest.raises(RigupError) as caught:
        plan_supply(HOST, registry(500, NO_ROUTE), ON_BASE, LOOK)
    assert NO_ROUTE in str(caught.value)
    assert why_not_here in str(caught.value)
    assert "container_registry" in (caught.value.remedy or "")


ARM = replace(LOOK, machine="aarch64")


@pytest.mark.parametrize("wanted", [AS_IT_IS, ON_BASE, PRACTICE])
def test_an_image_for_another_kind_of_machine_is_not_sent(
    here: dict[str, int], wanted: WantedImage
) -> None:
    here.update({AS_IT_IS.reference: GIB, BASE: GIB, PRACTICE.reference: GIB})
    with pytest.raises(RigupError) as caught:
        plan_supply(HOST, registry(500, NO_ROUTE), wanted, ARM)
    assert "is for amd64, and the host needs one for linux/arm64" in str(caught.value)
    assert wanted.practice or NO_ROUTE in str(caught.value)
    unknown = replace(LOOK, machine="")
    assert plan_supply(HOST, registry(500, NO_ROUTE), wanted, unknown).sends


def test_a_host_of_another_kind_tries_where_only_a_try_can_tell(here: dict[str, int]) -> None:
    own = WantedImage("registry.example/team/image:1", "", "")
    here[own.reference] = GIB
    assert plan_supply(HOST, registry(401, "odd"), own, ARM).sends is None


def test_where_only_a_try_can_tell_the_host_tries() -> None:
    own = WantedImage("registry.example/team/image:1", "", "")
    supply = plan_supply(HOST, registry(401, "odd"), own, LOOK)
    assert supply.plan == ImagePlan(pull=own.reference)
    assert "size not known" in supply.said[0]


def test_where_only_a_try_can_tell_what_is_here_is_sent(here: dict[str, int]) -> None:
    own = WantedImage("registry.example/team/image:1", "", "")
    here[own.reference] = GIB
    supply = plan_supply(HOST, registry(401, "odd"), own, LOOK)
    assert supply.sends == own.reference


def small(gib: float) -> DockerLook:
    return replace(LOOK, free_bytes=int(gib * GIB))


@pytest.mark.parametrize(
    ("transport", "wanted", "images", "needed"),
    [
        (lambda: registry(size=3 * GIB), ON_BASE, {}, 12.0),
        (lambda: registry(size=3 * GIB), AS_IT_IS, {}, 9.0),
        (lambda: registry(), ON_BASE, {}, 3.0),
        (lambda: registry(500, NO_ROUTE), AS_IT_IS, {"team/image:1": 10 * GIB}, 11.0),
        (lambda: registry(500, NO_ROUTE), ON_BASE, {BASE: 10 * GIB}, 14.0),
        (lambda: registry(500, NO_ROUTE), PRACTICE, {PRACTICE.reference: 10 * GIB}, 11.0),
    ],
)
def test_a_disk_too_small_is_refused_before_anything_moves(
    here: dict[str, int],
    transport: Callable[[], FakeTransport],
    wanted: WantedImage,
    images: dict[str, int],
    needed: float,
) -> None:
    here.update(images)
    assert plan_supply(HOST, transport(), wanted, small(needed)).plan is not None
    unknown = replace(LOOK, free_bytes=None, root="")
    assert plan_supply(HOST, transport(), wanted, unknown).plan is not None
    with pytest.raises(RigupError) as caught:
        plan_supply(HOST, transport(), wanted, small(needed - 0.2))
    assert str(caught.value).startswith(
        f"lab01: {needed - 0.2:.1f} GiB are free where Docker keeps images (/var/lib/docker), and "
        f"{wanted.reference} needs about {needed:.1f} GiB\n"
    )
    assert "docker system prune" in (caught.value.remedy or "")


def test_a_base_that_is_there_needs_space_for_the_build() -> None:
    look = replace(small(2.9), images=frozenset({BASE}))
    with pytest.raises(RigupError, match="needs about 3"):
        plan_supply(HOST, registry(), ON_BASE, look)


def test_the_practice_image_is_sent(here: dict[str, int]) -> None:
    here[PRACTICE.reference] = GIB
    supply = plan_supply(HOST, registry(), PRACTICE, LOOK)
    assert supply.plan == ImagePlan(sender=SENDER, size=GIB)
    assert supply.sends == PRACTICE.reference


@pytest.mark.parametrize("reference", ["", PRACTICE.reference])
def test_a_practice_image_that_nobody_has_is_built_here(
    here: dict[str, int], monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    def build_it(progress: Callable[[str], None]) -> str:
        progress("building")
        here["rigup/pytorch-cpu:2"] = GIB
        return "rigup/pytorch-cpu:2"

    monkeypatch.setattr(image_supply, "build_local_image", build_it)
    said: list[str] = []
    wanted = replace(PRACTICE, reference=reference)
    supply = plan_supply(HOST, registry(), wanted, LOOK, progress=said.append)
    assert (supply.image, supply.sends) == ("rigup/pytorch-cpu:2", "rigup/pytorch-cpu:2")
    assert said == ["building"]


def test_a_practice_image_built_just_now_may_be_there_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_supply, "build_local_image", lambda _: "rigup/pytorch-cpu:2")
    host = FakeTransport(lambda c: Result(c, 0, b"sha256:1"), host_name="lab01")
    supply = plan_supply(HOST, host, replace(PRACTICE, reference=""), LOOK)
    assert (supply.image, supply.plan) == ("rigup/pytorch-cpu:2", None)


def test_a_dry_run_builds_nothing() -> None:
    supply = plan_supply(HOST, registry(), PRACTICE, LOOK, dry_run=True)
    assert supply.plan is None
    assert "is built here" in supply.said[0]


def test_without_docker_there_is_no_plan() -> None:
    refusing = DockerLook(usable=False, problem="Docker is not installed")
    with pytest.raises(BlockedError, match="Docker is not installed") as caught:
        plan_supply(HOST, registry(), ON_BASE, refusing)
    assert caught.value.exit_code == ExitCode.BLOCKED
    assert "provision --host lab01" in (caught.value.remedy or "")


def test_the_name_of_the_practice_image_is_known_without_building(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build._practice_reference.cache_clear()
    monkeypatch.setattr(build, "known_base", lambda _: "rigup-lab/base-debian12:1")
    monkeypatch.setattr(build, "local_base", lambda *_: "rigup-lab/base-debian12:1")
    monkeypatch.setattr(build, "image_id", lambda *_: "sha256:1")
    assert build.practice_reference() == build.build_local_image()
    build._practice_reference.cache_clear()
    monkeypatch.setattr(build, "known_base", lambda _: None)
    assert build.practice_reference() is None
    build._practice_reference.cache_clear()
