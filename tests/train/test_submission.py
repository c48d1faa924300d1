"""From hosts that answered to a job on one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inventory import ContainerSettings, Host, Mirrors
from provisioner.containers.docker_look import DockerLook
from provisioner.containers.image_supply import Supply, WantedImage
from provisioner.errors import BlockedError, ConnectionLost, RigupError
from provisioner.mirrors import CA_BUNDLE
from provisioner.sync import CodeTree, freeze
from provisioner.train import submission as module
from provisioner.train.placement import Candidate, GpuRequest, GpuState
from provisioner.train.probe import HostState, Probed
from provisioner.train.request import Request, Script
from provisioner.train.submission import Placement, place, submit
from remote_agent.protocol.job import ImagePlan, JobRecord, JobSpec
from remote_agent.protocol.sample import HostSample, Sample

ARRIVES = ImagePlan(sender="ann@laptop", size=100)


class Agent:
    """Takes what it is sent."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.specs: list[JobSpec] = []
        self.calls: list[str] = []

    def partial_blobs(self, digests: list[str], sizes: dict[str, int]) -> dict[str, int]:
        return dict.fromkeys(digests, 0)

    def put_blobs(self, blobs: Any) -> None:
        self.blobs.update(blobs)

    def put_manifest(self, entries: Any) -> str:
        return "f" * 64

    def submit(self, spec: JobSpec) -> JobRecord:
        self.specs.append(spec)
        return JobRecord(spec, "queued", 1.0)

    def job(self, job_id: str) -> JobRecord:
        return JobRecord(self.specs[-1], "running", 1.0)

    def stop(self, job_id: str, *, grace_s: float) -> None:
        self.calls.append(f"stop {job_id}")

    def remove(self, job_id: str) -> None:
        self.calls.append(f"remove {job_id}")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    code = tmp_path / "code"
    code.mkdir()
    path = code / "train.py"
    path.write_text("import torch\n")
    return Request(Script(path, code, code), ("--lr", "1"), GpuRequest(), environment={"A": "b"})


def tree(request: Request) -> CodeTree:
    return freeze(request.script.root, request.script.path)


def state(name: str = "a", *, wanted: str | None = "img", **settings: Any) -> HostState:
    return HostState(
        Host(name, name, **settings),
        None,  # type: ignore[arg-type]
        Agent(),  # type: ignore[arg-type]
        Sample(1.0, HostSample()),
        (),
        DockerLook(usable=True),
        frozenset(),
        WantedImage(wanted, "", "why") if wanted else None,
    )


Choose = Callable[..., tuple[Placement, list[str]]]


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch, request_: Request) -> Choose:
    """``place`` among hosts with two free GPUs each, and what was noted."""

    def run(
        *states: HostState,
        supplies: dict[str, Any] | None = None,
        late: tuple[HostState, ...] = (),
        **rest: Any,
    ) -> Any:
        free = tuple(GpuState(index, "H100", 1, True) for index in range(2))
        candidates = [Candidate(one.host.name, free, **rest) for one in states]
        probed = Probed(tuple(candidates), {one.host.name: one for one in states})
        known = {one.host.name: one for one in late}

        def ask(hosts: Any, request: Request, **options: Any) -> Probed:
            if not options.get("waits_for_all"):
                return replace(probed, late=tuple(one.host for one in late))
            again = tuple(Candidate(one.host.name, free) for one in late)
            return Probed(again, known)

        monkeypatch.setattr(module, "probe", ask)

        def plan(host: Host, *others: Any, **options: Any) -> Supply:
            found = (supplies or {}).get(host.name, Supply("img"))
            if isinstance(found, Exception):
                raise found
            return found  # type: ignore[no-any-return]

        monkeypatch.setattr(module, "plan_supply", plan)
        noted: list[str] = []
        return place([one.host for one in (*states, *late)], request_, noted.append), noted

    return run


def calls(one: HostState | Placement) -> list[str]:
    return one.client.calls  # type: ignore[attr-defined, no-any-return]


def test_where_there_is_a_choice_it_is_told(choose: Choose) -> None:
    a, b = state("a"), state("b")
    placement, noted = choose(a, b)
    assert placement.host.name == "a"
    assert noted == ["a: 2 of 2 GPUs free; its image must come first"]
    assert (calls(a), calls(b)) == ([], ["close"])
    assert choose(state("a"))[1] == []


def test_where_its_image_cannot_be_had_the_next_host_is_tried(choose: Choose) -> None:
    refusal = RigupError("its disk is too small", host="a", remedy="free some")
    placement, noted = choose(state("a"), state("b"), supplies={"a": refusal})
    assert placement.host.name == "b"
    assert noted[0] == "a: its disk is too small; trying another host"


def test_hosts_that_were_not_waited_for_are_asked_after_all(choose: Choose) -> None:
    a, b = state("a"), state("b")
    refusal = RigupError("its disk is too small", host="a")
    placement, noted = choose(a, supplies={"a": refusal}, late=(b,))
    assert placement.host.name == "b"
    assert "its disk is too small" in noted[0]
    assert calls(a) == ["close"]


def test_what_a_host_says_begins_no_line(choose: Choose) -> None:
    refusal = RigupError("full\nb: all is well", host="a")
    _, noted = choose(state("a"), state("b"), supplies={"a": refusal})
    assert not [line for line in noted if "\n" in line]


def test_the_last_hosts_refusal_is_the_error(choose: Choose) -> None:
    a = state("a")
    with pytest.raises(BlockedError, match="no image"):
        choose(a, supplies={"a": BlockedError("no image", host="a")})
    assert calls(a) == ["close"]


def test_a_job_carries_everything(choose: Choose, request_: Request) -> None:
    settings = ContainerSettings(mounts=("/data:/data",), shm_size="2g")
    placement, _ = choose(state(container=settings))
    record = submit(placement, tree(request_), lambda text: None)
    spec = record.spec
    assert spec.argv == ("python", "train.py", "--lr", "1")
    assert (spec.runtime, spec.image, spec.image_plan) == ("container", "img", None)
    assert (spec.gpus, spec.gpu_indices) == (1, ())
    assert (spec.mounts, spec.shm_size, spec.env) == (("/data:/data",), "2g", {"A": "b"})
    assert spec.snapshot == "f" * 64
    digest = hashlib.sha256(b"import torch\n").hexdigest()
    assert placement.client.blobs == {digest: b"import torch\n"}  # type: ignore[attr-defined]


def test_several_gpus_mean_torchrun_and_exact_ones_are_asked_for(
    choose: Choose, request_: Request
) -> None:
    object.__setattr__(request_, "gpus", GpuRequest(2, (0, 1)))
    host = state(wanted=None, python="/opt/python")
    placement, _ = choose(host)
    assert placement.command == ("/opt/python", "train.py", "--lr", "1"), "no torch, no torchrun"
    host.facts = frozenset({"torch"})
    spec = submit(placement, tree(request_), lambda text: None).spec
    launched = ("/opt/python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert spec.argv == (*launched, "train.py", "--lr", "1")
    assert (spec.gpus, spec.gpu_indices, spec.runtime, spec.image) == (2, (0, 1), "process", None)


def test_a_script_that_starts_once_on_several_gpus_is_told(
    choose: Choose, request_: Request
) -> None:
    object.__setattr__(request_, "gpus", GpuRequest(2))
    placement, noted = choose(state(wanted=None))
    submit(placement, tree(request_), noted.append)
    assert "python3 has no torch: the script starts once, with all its GPUs" in noted


def test_only_what_the_host_lacks_is_told_of(choose: Choose, request_: Request) -> None:
    for name in "ab":
        (request_.script.root / f"{name}.py").write_text(name)
    placement, noted = choose(state())
    agent: Any = placement.client
    agent.partial_blobs = lambda digests, sizes: {digests[0]: 0}
    submit(placement, tree(request_), noted.append)
    assert any(line.startswith("to be sent: 1 of its 3 files, ") for line in noted)


def test_what_the_host_builds_travels_before_the_job(choose: Choose, request_: Request) -> None:
    digest = hashlib.sha256(b"context").hexdigest()
    plan = ImagePlan(base="base:1", pull="base:1", build=digest)
    supply = Supply("img", plan, b"context", None, 5, ("a pulls base:1",))
    placement, _ = choose(state(), supplies={"a": supply})
    noted: list[str] = []
    spec = submit(placement, tree(request_), noted.append).spec
    assert spec.image_plan == plan
    assert placement.client.blobs[digest] == b"context"  # type: ignore[attr-defined]
    assert noted == ["a pulls base:1"]


class TestSending:
    @pytest.fixture(autouse=True)
    def sending(self, choose: Choose, request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[tuple[str, str]] = []
        self.fates: list[BaseException | None] = []

        def send(transport: object, reference: str, note: object, arriving: str) -> None:
            self.sent.append((reference, arriving))
            assert callable(note)
            fate = self.fates.pop(0) if self.fates else None
            if fate is not None:
                self.is_broken = isinstance(fate, ConnectionLost)
                raise fate

        self.there: str | None = None
        monkeypatch.setattr(module, "send_image", send)
        monkeypatch.setattr(module, "image_id", lambda transport, reference: self.there)
        self.reconnected = 0
        self.is_broken = False
        monkeypatch.setattr(HostState, "reconnect", self.reconnect)
        supply = Supply("img", ARRIVES, None, "img", 100, ("img is sent from here",))
        self.place, _ = choose(state(state_dir="/scratch/rigup"), supplies={"a": supply})
        self.noted: list[str] = []
        self.submit = lambda: submit(self.place, tree(request_), self.noted.append)

    def reconnect(self) -> None:
        self.reconnected += 1
        self.is_broken = False

    def test_the_job_is_there_before_its_image_and_the_id_comes_after_it(self) -> None:
        record = self.submit()
        assert record.state == "running"
        assert self.sent == [("img", f"/scratch/rigup/jobs/{record.job_id}/arriving")]
        assert self.noted == ["img is sent from here"]

    def test_a_broken_link_is_tried_again(self) -> None:
        """The agent's session breaks with it."""
        self.fates = [ConnectionLost("lost", host="a"), None]
        client: Any = self.place.client
        ask = client.job

        def job(job_id: str) -> JobRecord:
            if self.is_broken:
                raise ConnectionLost("lost", host="a")
            return ask(job_id)  # type: ignore[no-any-return]

        client.job = job
        assert self.submit().state == "running"
        assert len(self.sent) == 2
        assert self.noted[-1] == "a: lost; connecting again"
        assert self.reconnected == 1

    def test_a_link_that_broke_after_the_last_byte_costs_nothing(self) -> None:
        self.fates, self.there = [ConnectionLost("lost", host="a")], "sha256:1"
        assert self.submit().state == "running"
        assert len(self.sent) == 1

    def test_a_link_that_always_breaks_is_an_error(self) -> None:
        self.fates = [ConnectionLost("lost", host="a") for _ in range(9)]
        with pytest.raises(ConnectionLost):
            self.submit()
        assert len(self.sent) == 3
        assert calls(self.place)[-1].startswith("remove ")

    def test_a_job_that_was_stopped_meanwhile_ends_the_sending(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def send(transport: object, reference: str, note: Any, arriving: str) -> None:
            note("sent 128 MiB")
            pytest.fail("it went on")

        monkeypatch.setattr(module, "send_image", send)
        client: Any = self.place.client
        client.job = lambda job_id: JobRecord(client.specs[-1], "stopped", 1.0)
        with pytest.raises(RigupError, match="has stopped while its image was sent"):
            self.submit()

    def test_a_job_that_cannot_be_withdrawn_is_named(self) -> None:
        self.fates = [RigupError("no space left")]

        def stop(job_id: str, *, grace_s: float) -> None:
            raise ConnectionLost("lost")

        self.place.client.stop = stop  # type: ignore[assignment, method-assign]
        with pytest.raises(RigupError, match="no space"):
            self.submit()
        [spec] = self.place.client.specs  # type: ignore[attr-defined]
        assert f"end it: invoke stop {spec.job_id}" in self.noted[-1]
        assert self.reconnected == 1

    def test_a_link_that_breaks_once_the_image_is_there_changes_nothing(self) -> None:
        def job(job_id: str) -> JobRecord:
            raise ConnectionLost("lost")

        self.place.client.job = job  # type: ignore[assignment, method-assign]
        assert self.submit().state == "queued"

    @pytest.mark.parametrize("fate", [RigupError("no space left"), KeyboardInterrupt()])
    def test_no_job_is_left_behind_whose_image_will_never_come(self, fate: BaseException) -> None:
        self.fates = [fate]
        with pytest.raises(type(fate)):
            self.submit()
        [spec] = self.place.client.specs  # type: ignore[attr-defined]
        assert calls(self.place) == [f"stop {spec.job_id}", f"remove {spec.job_id}"]
        assert self.noted[-1] == f"{spec.job_id} was withdrawn"


def test_the_inventorys_mirrors_reach_the_job() -> None:
    assert module._mirror_environment(Host("a", "a"), in_container=False) == {}
    mirrors = Mirrors(python_index="https://m/simple", ca_certificates=(Path("ca.pem"),))
    host = Host("a", "a", mirrors=mirrors)
    index = {"PIP_INDEX_URL": "https://m/simple"}
    assert module._mirror_environment(host, in_container=True) == index
    bundle = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"), str(CA_BUNDLE))
    assert module._mirror_environment(host, in_container=False) == {**index, **bundle}
