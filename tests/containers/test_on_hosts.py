"""Which container and which GPUs a host is taken to have."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest
from scripted_host import ScriptedHost

from inventory import Host
from provisioner.command import Command, Result
from provisioner.containers import on_hosts
from provisioner.containers.facade import HostGpus
from provisioner.containers.on_hosts import _gpus, _running
from provisioner.containers.spec import LABEL, OWNER_LABEL, SPEC_LABEL, ContainerSpec, Login
from provisioner.errors import BlockedError, RigupError, UsageError
from provisioner.transport.fake import FakeTransport

HOST = Host(name="gpu01", address="192.0.2.7")
H100 = "gpu|{0}, GPU-6d2ac9a1-{0}, 580.173.02, 81559, {1}, NVIDIA H100 80GB HBM3\n"
SIMULATED = "gpu|0, GPU-5e-0, 580.173.02, 24576, 8.9, SIMULATED NVIDIA L4\n"


class TwoUsers:
    """A host on which ana (uid 1000) and ben (uid 1001) have containers; we are ana."""

    def __init__(self) -> None:
        self.entries = [
            entry("torch", Login("ana", 1000, 1000), "running"),
            entry("old", Login("ana", 1000, 1000), "exited"),
            entry("bens", Login("ben", 1001, 1001), "running"),
        ]

    def __call__(self, command: Command) -> Result:
        if command.words[:2] == ("docker", "ps"):
            wanted = [word for word in command.words if word.startswith("label=rigup.uid=")]
            uid = wanted[0].rpartition("=")[2]
            shown = [one["Id"] for one in self.entries if labels(one)[OWNER_LABEL] == uid]
            return Result(command, 0, "\n".join(shown).encode())
        if command.words[:2] == ("docker", "container"):
            found = [one for one in self.entries if one["Id"] in command.words]
            return Result(command, 0, json.dumps(found).encode())
        return Result(command, 0, b"uid=1000\ngid=1000\nname=ana\nhome=/home/ana\nCapBnd=0\n")


def entry(name: str, login: Login, status: str) -> dict[str, object]:
    spec = ContainerSpec(name, "image", login, 22200, PurePosixPath("/keys"))
    kept = {LABEL: name, OWNER_LABEL: str(login.uid), SPEC_LABEL: spec.to_label()}
    config = {"Labels": kept}
    return {"Id": name, "Name": f"/{name}", "State": {"Status": status}, "Config": config}


def labels(one: dict[str, object]) -> dict[str, str]:
    config = one["Config"]
    assert isinstance(config, dict)
    found: dict[str, str] = config["Labels"]
    return found


def test_the_users_running_container_is_found() -> None:
    info = _running(HOST, FakeTransport(TwoUsers()), "torch")
    assert (info.name, info.user) == ("torch", "ana")


@pytest.mark.parametrize("name", ["old", "bens", "absent"])
def test_one_that_does_not_run_or_is_somebody_elses_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=f"no container '{name}' is running") as caught:
        _running(HOST, FakeTransport(TwoUsers()), name)
    assert caught.value.host == "gpu01"
    assert caught.value.remedy == f"invoke container.up --host gpu01 --name {name}"


def gpus_of(answer: str) -> HostGpus:
    return _gpus(ScriptedHost(sections={"gpu": answer}).transport())


def test_real_gpus_tell_driver_and_capabilities() -> None:
    found = gpus_of("smi=1\n" + H100.format(0, "9.0") + H100.format(1, "9.0"))
    uuids = ("GPU-6d2ac9a1-0", "GPU-6d2ac9a1-1")
    assert found == HostGpus("580.173.02", ("9.0", "9.0"), False, (0, 1), uuids)
    assert found.usable


def test_a_capability_that_the_driver_does_not_tell_is_left_out() -> None:
    found = gpus_of("smi=1\n" + H100.format(0, "[N/A]") + H100.format(1, "9.0"))
    assert found.compute_capabilities == ("9.0",)


def test_a_simulated_gpu_computes_nothing() -> None:
    found = gpus_of("smi=1\n" + SIMULATED)
    assert found.present
    assert found.simulated
    assert not found.usable


def test_a_host_without_gpus_has_none() -> None:
    assert gpus_of("") == HostGpus()


def test_a_host_that_answers_nothing_is_not_a_host_without_gpus() -> None:
    with pytest.raises(RigupError, match="gpu"):
        _gpus(FakeTransport(lambda command: Result(command, 0, b"")))


def test_gpus_without_a_driver_are_no_reason_for_a_cpu_image() -> None:
    with pytest.raises(BlockedError, match="no driver that answers") as raised:
        gpus_of("pci|0000:01:00.0|0x030200|0x2330|none\n")
    assert "invoke provision" in str(raised.value.remedy)


def test_a_session_that_began_after_the_question_is_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    removed: list[str] = []

    def answer(command: Command) -> Result:
        if "rm" in command.words:
            removed.append(command.words[-1])
        if "--format" in command.words:
            return Result(command, 0, b"running\n")
        if "top" in command.words:
            return Result(command, 0, b"PID COMMAND\n4810 sshd: ana@pts/0\n")
        return Result(command, 0, b"uid=1000\ngid=1000\nname=ana\nhome=/home/ana\nCapBnd=0\n")

    monkeypatch.setattr(
        "provisioner.containers.on_hosts.SshTransport", lambda host: FakeTransport(answer)
    )
    with pytest.raises(BlockedError, match="1 open SSH session"):
        on_hosts.down(HOST, "torch")
    assert removed == []
