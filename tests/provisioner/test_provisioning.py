"""Many hosts at once: the real steps on scripted hosts, with one transcript per host."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_host import Package, ScriptedHost
from situations import facts_of

from inventory import Host
from provisioner import provisioning
from provisioner.agent.bundle import build_bundle
from provisioner.command import Command, Result, Secret
from provisioner.errors import ConnectError, ExitCode, UsageError
from provisioner.plan import check, choose
from provisioner.provisioning import Wishes, provision_hosts, read_facts
from provisioner.report import HostReport
from provisioner.steps import Blocked, Satisfied
from provisioner.transport.fake import FakeTransport

DEBIAN = (
    'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian 12"\n'
    "RIGUP_KERNEL=6.1\nRIGUP_ARCH=x86_64\nRIGUP_BOOT=b\n"
)
STEPS = ("docker", "driver", "toolkit", "agent")
READY = {
    "os": DEBIAN,
    "login": "USER=ml\nUID=1000\nHOME=/home/ml\nGROUPS=ml docker\n",
    "python": "Python 3.11.2",
    "docker": (
        'installed=1\nactive=1\nenabled=1\ninfo={"ServerVersion":"20.10.24","Runtimes":{}}\n'
        'daemon|{"log-driver": "local", "live-restore": true}\ndaemon_digest=1\n'
    ),
    "agent": build_bundle().digest,
}


def unreachable(command: Command) -> Result:
    raise ConnectError("no answer in time", remedy="is it switched on?")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeTransport]:
    """gpu01 has all it needs, gpu02 has nothing, gpu03 does not answer."""
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path))
    steps = tuple(step for step in provisioning.ALL_STEPS if step.name in STEPS)
    monkeypatch.setattr(provisioning, "ALL_STEPS", steps)
    transports = {
        "gpu01": ScriptedHost("gpu01", sections=READY).transport(),
        "gpu02": ScriptedHost("gpu02", sections={"os": DEBIAN}).transport(),
        "gpu03": FakeTransport(unreachable, host_name="gpu03"),
    }
    monkeypatch.setattr(
        provisioning,
        "SshTransport",
        lambda host, sudo_password: transports[host.name],
    )
    return transports


def run(*, only_check: bool = False, password: Secret | None = None) -> list[HostReport]:
    hosts = [Host(name, name) for name in ("gpu01", "gpu02", "gpu03")]
    wishes = Wishes(only_check=only_check, sudo_password=password)
    return list(provision_hosts(hosts, lambda *words: None, wishes))


def test_a_plan_for_every_host_and_none_is_changed(fleet: dict[str, FakeTransport]) -> None:
    ready, bare, gone = run(only_check=True)
    assert (ready.changed, ready.exit_code) == (0, ExitCode.DONE)
    assert [step.status for step in ready.steps] == ["ok"] * 4
    assert [(step.step, step.status) for step in bare.steps] == [
        ("docker", "would-change"),
        ("driver", "ok"),
        ("toolkit", "ok"),
        ("agent", "would-change"),
    ]
    assert isinstance(gone.error, ConnectError)
    assert all(len(transport.commands) == 1 for transport in fleet.values())


def test_a_host_that_has_it_all_is_only_proven(fleet: dict[str, FakeTransport]) -> None:
    ready = run()[0]
    assert (ready.changed, ready.error) == (0, None)
    assert "Docker 20.10.24 runs a container (no GPU on this host)" in ready.proofs[0].text
    words = [command.words[0] for command in fleet["gpu01"].commands]
    assert words == ["sh", "sh", "sh"], "facts, the container, the record"


def test_every_host_has_its_own_transcript(fleet: dict[str, FakeTransport]) -> None:
    for report in run(only_check=True):
        assert report.transcript is not None
        path = Path(report.transcript)
        assert path.name == f"{report.host}.log"
        assert path.stat().st_mode & 0o777 == 0o600
        assert "$ sh -s" in path.read_text()
    assert "no answer in time" in path.read_text()


def test_a_password_reads_facts_as_root_and_is_written_nowhere(
    fleet: dict[str, FakeTransport],
) -> None:
    reports = run(only_check=True, password=Secret("hunter2"))
    assert all(command.sudo for command in fleet["gpu01"].commands)
    for report in reports:
        assert report.transcript is not None
        assert "hunter2" not in Path(report.transcript).read_text() + repr(report)


def test_reading_facts_closes_the_connection_whatever_happens(
    fleet: dict[str, FakeTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    for name, transport in fleet.items():
        monkeypatch.setattr(transport, "close", lambda name=name: closed.append(name))
    assert dict(read_facts(Host("gpu01", "gpu01")).items())["python"].version == (3, 11)
    with pytest.raises(ConnectError):
        read_facts(Host("gpu03", "gpu03"))
    assert closed == ["gpu01", "gpu03"]


def chosen(only: str = "", skip: str = "") -> tuple[list[str], list[str]]:
    steps = [Package(name) for name in ("docker", "driver", "toolkit")]
    took, left = choose(steps, only=only.split(",") if only else (), skip=skip.split(","))
    return [step.name for step in took], [step.name for step in left]


@pytest.mark.parametrize(
    ("only", "skip", "took", "left"),
    [
        ("", "driver", ["docker", "toolkit"], ["driver"]),
        ("toolkit,docker", "driver", ["docker", "toolkit"], ["driver"]),
        ("docker,driver", "driver", ["docker"], ["driver", "toolkit"]),
    ],
)
def test_steps_that_were_chosen_in_their_own_order(
    only: str, skip: str, took: list[str], left: list[str]
) -> None:
    assert chosen(only, skip) == (took, left)


def test_the_guards_come_along_unless_they_are_skipped_by_name() -> None:
    """Nobody gets a Linux driver into WSL by asking for the driver only."""
    took, left = choose(provisioning.ALL_STEPS, only=["agent"])
    assert [step.name for step in took] == ["machine", "preflight", "agent"]
    assert "docker" in [step.name for step in left]
    took, left = choose(provisioning.ALL_STEPS, only=["agent"], skip=["preflight"])
    assert [step.name for step in took] == ["machine", "agent"]


def test_preflight_asks_for_what_the_chosen_steps_need() -> None:
    host = Host("gpu01", "gpu01")
    full = {"from": "fresh", "facts": {"resources": {"mounts": {"/": {"mib": 1}}}}}
    facts = facts_of(full, host)
    every, _ = choose(provisioning.ALL_STEPS)
    agent, _ = choose(provisioning.ALL_STEPS, only=["agent"])
    assert isinstance(check(every[1], facts, host), Blocked)
    assert isinstance(check(agent[1], facts, host), Satisfied)


@pytest.mark.parametrize(
    ("only", "skip", "said"),
    [
        ("dokcer", "driver", "--only dokcer: no such step"),
        ("", "nothing", "--skip nothing: no such step"),
        ("driver", "driver", "leave no step"),
    ],
)
def test_a_step_that_does_not_exist_is_a_usage_error_that_lists_them(
    only: str, skip: str, said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        chosen(only, skip)
    assert said in refused.value.message
    assert refused.value.remedy == "steps: docker, driver, toolkit"
