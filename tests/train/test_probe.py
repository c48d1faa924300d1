"""What hosts tell before a job is sent, and what follows from it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inventory import ContainerSettings, Host
from provisioner.command import Command, Result
from provisioner.containers.docker_look import DockerLook
from provisioner.errors import BlockedError, ConnectError, RigupError, UsageError
from provisioner.train import probe as module
from provisioner.train.placement import GpuRequest, choices
from provisioner.train.probe import LOOK, probe
from provisioner.train.request import Request, Script
from remote_agent.protocol.job import ImagePlan, JobRecord, JobSpec
from remote_agent.protocol.sample import GpuProcess, GpuSample, HostSample, Sample

PRACTICE = "rigup/pytorch-cpu:1"
USABLE = "docker|usable\n"
WITH_TORCH = "host|python\nhost|torch\n"


def gpu(index: int = 0, **rest: Any) -> GpuSample:
    defaults: dict[str, Any] = {"name": "NVIDIA H100 (SIMULATED)", "simulated": True}
    return GpuSample(index, f"GPU-{index}", **{**defaults, **rest})


def job(state: str, gpus: int = 1) -> JobRecord:
    return JobRecord(JobSpec(f"job-{state}", "x", ("x",), gpus=gpus), state, 1.0)


class Machine:
    """A host as its agent and its shell tell it."""

    def __init__(
        self,
        text: str = USABLE,
        gpus: Sequence[GpuSample] = (),
        jobs: Sequence[JobRecord] = (),
        error: Exception | None = None,
    ) -> None:
        self.text, self.jobs_, self.error = text, tuple(jobs), error
        self.sample_ = Sample(1.0, HostSample(), tuple(gpus))
        self.closed = 0
        self.on_close: Callable[[], None] | None = None
        self.commands: list[Command] = []

    def connect(self) -> None:
        return

    def sample(self) -> Sample:
        if self.error is not None:
            raise self.error
        return self.sample_

    def jobs(self) -> tuple[JobRecord, ...]:
        return self.jobs_

    def run(self, command: Command) -> Result:
        self.commands.append(command)
        return Result(command, 0, self.text.encode())

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., module.Probed]:
    monkeypatch.setattr("provisioner.containers.image_supply.practice_reference", lambda: PRACTICE)

    def run(
        machines: dict[str, Machine],
        *,
        text: str = "import torch\n",
        settings: dict[str, Any] | None = None,
        **asked: Any,
    ) -> module.Probed:
        path = tmp_path / "train.py"
        path.write_text(text)
        monkeypatch.setattr(module, "SshTransport", lambda host: machines[host.name])
        monkeypatch.setattr(module, "agent_over", lambda transport, host: transport)
        hosts = [Host(name, name, **(settings or {})) for name in machines]
        request = Request(Script(path, tmp_path, tmp_path), **asked)
        return probe(hosts, request, only=len(hosts) == 1)

    return run


Look = Callable[..., module.Probed]


def error_of(probed: module.Probed) -> RigupError:
    [candidate] = probed.candidates
    assert candidate.error is not None
    return candidate.error


def test_gpus_count_as_free_only_where_nobody_is_on_them(look: Look) -> None:
    busy = (GpuProcess(1, name="python"),)
    gpus = [
        gpu(0),
        gpu(1, job_id="job-1"),
        gpu(2, processes=busy),
        gpu(3, error="lost"),
        gpu(4, mig_enabled=True),
        gpu(5, processes_known=False),
        gpu(6, processes=(GpuProcess(2, name="nvidia-cuda-mps"),)),
    ]
    [candidate] = look({"a": Machine(gpus=gpus)}).candidates
    assert [one.index for one in candidate.gpus if one.free] == [0, 6]
    assert [one.index for one in candidate.gpus if one.problem] == [3, 4, 5]


def test_jobs_ahead_are_those_that_want_gpus(look: Look) -> None:
    jobs = [job("queued"), job("running"), job("running", gpus=0), job("succeeded")]
    [candidate] = look({"a": Machine(gpus=[gpu()], jobs=jobs)}).candidates
    assert (candidate.jobs_ahead, candidate.has_queue) == (2, True)
    waiting = job("queued")
    spec = replace(waiting.spec, image_plan=ImagePlan(sender="ann"))
    for_image = replace(waiting, spec=spec, waiting_for="receiving img from ann")
    [candidate] = look({"a": Machine(gpus=[gpu()], jobs=[for_image])}).candidates
    assert (candidate.jobs_ahead, candidate.has_queue) == (0, False)
    [candidate] = look({"a": Machine(gpus=[gpu()], jobs=[job("running")])}).candidates
    assert (candidate.jobs_ahead, candidate.has_queue) == (1, False)


@pytest.mark.parametrize(
    ("text", "gpus", "asked", "image"),
    [
        (USABLE, [gpu()], {}, PRACTICE),
        (USABLE + WITH_TORCH, [gpu()], {}, PRACTICE),
        (USABLE + WITH_TORCH, [gpu()], {"runtime": "process"}, None),
        (USABLE + WITH_TORCH, [], {}, None),
        (USABLE, [], {}, PRACTICE),
        ("docker|missing\nhost|provisioned\n" + WITH_TORCH, [gpu()], {}, None),
    ],
)
def test_container_or_process(
    look: Look, text: str, gpus: list[GpuSample], asked: dict[str, str], image: str | None
) -> None:
    wanted = look({"a": Machine(text, gpus)}, **asked).states["a"].wanted
    assert (wanted and wanted.reference) == image


def test_a_script_without_torch_runs_in_any_python(look: Look) -> None:
    machine = Machine("docker|missing\nhost|python\n")
    assert look({"a": machine}, text="print(1)").states["a"].wanted is None


def test_the_inventorys_image_is_taken_as_it_is(look: Look) -> None:
    settings = {"container": ContainerSettings(image="lab/own:2")}
    wanted = look({"a": Machine(gpus=[gpu()])}, settings=settings).states["a"].wanted
    assert wanted is not None
    assert (wanted.reference, wanted.base) == ("lab/own:2", "")


@pytest.mark.parametrize(
    ("text", "asked", "kind", "said", "remedy"),
    [
        (
            USABLE + "host|python\n",
            {"runtime": "process"},
            UsageError,
            "torch is missing on a",
            "--runtime container, or python: in the inventory",
        ),
        (
            "docker|missing\nhost|provisioned\nhost|python\n",
            {},
            UsageError,
            "torch is missing on a",
            "invoke provision --host a, or python:",
        ),
        (
            "docker|missing\n",
            {"runtime": "container"},
            BlockedError,
            "Docker is not installed",
            "invoke provision --host a",
        ),
        (
            "docker|refusal|permission denied\nhost|provisioned\n" + WITH_TORCH,
            {"gpus": [gpu()]},
            BlockedError,
            "the login user may not use Docker",
            "invoke doctor --host a; or --runtime process",
        ),
        (
            USABLE + "host|nvidia\n",
            {},
            BlockedError,
            "no driver that answers",
            "invoke provision --host a; --gpus 0 trains on the CPU",
        ),
        ("docker|missing\nhost|torch\n", {}, UsageError, "python3 is not there", "python:"),
    ],
)
def test_a_host_that_cannot_run_it_says_why(
    look: Look, text: str, asked: dict[str, Any], kind: type, said: str, remedy: str
) -> None:
    machine = Machine(text, asked.get("gpus", ()))
    asked = {name: value for name, value in asked.items() if name != "gpus"}
    probed = look({"a": machine}, **asked)
    error = error_of(probed)
    assert type(error) is kind
    assert said in error.message
    assert remedy in str(error.remedy)
    assert (machine.closed > 0, probed.states) == (True, {})


BARE = "docker|missing\n"


@pytest.mark.parametrize(
    ("text", "hosts", "asked", "can_go"),
    [
        (BARE + "host|python\n", "a", {}, False),
        (BARE + WITH_TORCH, "ab", {}, False),
        (BARE + WITH_TORCH + "host|nvidia\n", "a", {}, False),
        (BARE + WITH_TORCH, "a", {}, True),
        (BARE + WITH_TORCH, "ab", {"runtime": "process"}, True),
        (USABLE, "ab", {}, True),
    ],
)
def test_hosts_that_nobody_provisioned(
    look: Look, text: str, hosts: str, asked: dict[str, str], can_go: bool
) -> None:
    candidates = look({name: Machine(text) for name in hosts}, **asked).candidates
    if can_go:
        assert choices(candidates, GpuRequest(0))[0].name == "a"
        return
    named = ",".join(hosts)
    with pytest.raises(BlockedError, match="never provisioned") as raised:
        choices(candidates, GpuRequest(0))
    assert raised.value.remedy == f"invoke provision --host {named}"


def test_one_host_that_fails_hides_no_other(look: Look) -> None:
    machines = {"a": Machine(error=ConnectError("refused")), "b": Machine(gpus=[gpu()])}
    probed = look(machines)
    assert [type(one.error) for one in probed.candidates] == [ConnectError, type(None)]
    assert list(probed.states) == ["b"]
    probed.close()
    assert machines["a"].closed
    assert machines["b"].closed


def test_only_the_chosen_hosts_connection_stays(look: Look) -> None:
    machines = {name: Machine(gpus=[gpu()]) for name in "abc"}
    look(machines).close(but="b")
    assert [machine.closed for machine in machines.values()] == [1, 0, 1]


@pytest.mark.parametrize(
    "text", ["", "\0\0", "docker|\n", "host|" + "x" * 10_000, "docker|usable|x"]
)
def test_nonsense_from_a_shell_is_no_defect(look: Look, text: str) -> None:
    [candidate] = look({"a": Machine(text, [gpu()])}).candidates
    assert candidate.error is None or "defect" not in str(candidate.error.remedy)


def test_the_script_in_a_real_shell() -> None:
    words = ["sh", "-c", LOOK, "sh", "python3", "image:1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "host|python\n" in done.stdout
    assert done.stderr == ""
    missing = [*words[:4], "no-such-python; echo host|torch", "image:1"]
    done = subprocess.run(missing, capture_output=True, text=True, timeout=60, check=True)
    assert "host|python" not in done.stdout
    assert "host|torch" not in done.stdout


def test_has_image_depends_on_what_docker_listed(look: Look) -> None:
    probed = look({"a": Machine(gpus=[gpu()])})
    state = probed.states["a"]
    assert not state.has_image
    present = DockerLook(usable=True, images=frozenset({PRACTICE}))
    assert replace(state, docker=present).has_image


class TestTheFirstAnswerIsNotAlwaysEnough:
    """One host answers at once; the other one answers when the first was looked at."""

    @pytest.fixture(autouse=True)
    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LATECOMERS_S", 0.05)

    def ask(self, look: Look, first: Machine, **asked: Any) -> module.Probed:
        may_answer = threading.Event()

        class Late(Machine):
            def jobs(self) -> tuple[JobRecord, ...]:
                may_answer.wait(0.3)
                return super().jobs()

        machines = {"first": first, "late": Late(gpus=[gpu()])}
        return look(machines, **asked)

    def test_a_free_gpu_is(self, look: Look) -> None:
        probed = self.ask(look, Machine(gpus=[gpu()]))
        assert (list(probed.states), [one.name for one in probed.late]) == (["first"], ["late"])

    def test_a_host_without_gpu_is_not(self, look: Look) -> None:
        probed = self.ask(look, Machine(USABLE + WITH_TORCH))
        assert (list(probed.states), probed.late) == (["first", "late"], ())
        assert choices(probed.candidates, GpuRequest())[0].name == "late"

    def test_a_busy_host_is_not(self, look: Look) -> None:
        probed = self.ask(look, Machine(gpus=[gpu(job_id="job-1")], jobs=[job("running")]))
        assert choices(probed.candidates, GpuRequest())[0].name == "late"


def test_a_broken_link_gets_a_new_session(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(gpus=[gpu()])
    state = look({"a": machine}).states["a"]
    again = Machine()
    monkeypatch.setattr(module, "agent_over", lambda transport, host: again)
    state.reconnect()
    assert (machine.closed, machine.on_close) == (1, None), "the connection itself stays"
    assert state.client is again
    assert again.on_close is not None
