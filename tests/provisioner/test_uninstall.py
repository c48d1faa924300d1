"""Taking back: only what is recorded, permitted, still as it was, and needed by nobody else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pytest
from scripted_host import ScriptedHost

from inventory import Host
from provisioner import journal
from provisioner.command import Command, Result
from provisioner.daemon_json import Wish, merge
from provisioner.errors import BlockedError, ExitCode, StepFailed
from provisioner.host_job import Job
from provisioner.journal import Entry
from provisioner.platforms.debian import Debian
from provisioner.report import HostReport
from provisioner.traces import Trace
from provisioner.transport.fake import FakeTransport
from provisioner.undo.json_keys import take_back
from provisioner.undo.permitted import refusal
from provisioner.undo.removal import Removal, plan
from provisioner.undo.survey import ABSENT, PRESENT, Survey, parse
from provisioner.uninstall import Removing, uninstall

HOME = "/home/ml"
DAEMON = "/etc/docker/daemon.json"


def entries(*traces: Trace, step: str = "docker") -> list[Entry]:
    return [Entry(step, trace) for trace in traces]


def planned(survey: Survey, *traces: Trace) -> Removal:
    return plan(entries(*traces), survey, Debian(), HOME)


def shown(removal: Removal) -> list[str]:
    return [action.label or action.describe() for action in removal.actions]


@pytest.mark.parametrize(
    "trace",
    [
        Trace("file", "/etc/passwd", "sha256:00"),
        Trace("file", "/etc/apt/../passwd", "sha256:00"),
        Trace("file", "/etc/apt/sources.list.d/debian.sources"),
        Trace("file", "etc/apt/rigup"),
        Trace("file", "/etc/apt//rigup-x"),
        Trace("file", "/home/ml/.ssh/authorized_keys", "sha256:00"),
        Trace("file", "/home/ml/.config/systemd/user/rigup-agent.service/../x"),
        Trace("file", "/home/ann/.config/systemd/user/rigup-agent.service"),
        Trace("file", "/var/lib/docker/rigup"),
        Trace("directory", "/home/ml"),
        Trace("directory", "/home/ml/.rigup/jobs"),
        Trace("json-keys", "/etc/shadow"),
        Trace("package", "-o Dpkg::Pre-Invoke::=sh"),
        Trace("package", "x; reboot"),
        Trace("package", "linux-image-amd64"),
        Trace("package", "openssh-server"),
        Trace("package", "systemd"),
        Trace("package", "python3"),
        Trace("unit", "--now"),
        Trace("unit", "../../x.service"),
        Trace("linger", "-a"),
        Trace("group-member", "ml", "sudo"),
        Trace("hold", "a b"),
    ],
    ids=lambda trace: f"{trace.kind} {trace.name}",
)
def test_what_rigup_never_writes_is_refused(trace: Trace) -> None:
    assert refusal(Entry("docker", trace), HOME)


@pytest.mark.parametrize(
    "trace",
    [
        Trace("file", "/etc/apt/keyrings/rigup-nvidia-40a3b6b57ce845ea.asc"),
        Trace("file", "/etc/systemd/system/nvidia-persistenced.service.d/rigup.conf"),
        Trace("file", "/etc/pip.conf", "sha256:00"),
        Trace("file", "/etc/tmpfiles.d/rigup.conf"),
        Trace("file", "/usr/local/share/rigup/ca-bundle.pem"),
        Trace("file", "/home/ml/.config/systemd/user/rigup-agent.service"),
        Trace("file", "/home/ml/.config/systemd/user/default.target.wants/rigup-agent-1f.service"),
        Trace("directory", "/home/ml/.rigup/agent"),
        Trace("json-keys", DAEMON),
        Trace("package", "libnvidia-container1"),
        Trace("package", "kernel-devel-5.14.0-1.el9.x86_64"),
        Trace("unit", "nvidia-fabricmanager.service"),
        Trace("linger", "ml"),
        Trace("group-member", "ml", "docker"),
        Trace("command", "dnf module enable x"),
    ],
    ids=lambda trace: f"{trace.kind} {trace.name}",
)
def test_what_rigup_writes_is_permitted(trace: Trace) -> None:
    assert refusal(Entry("docker", trace), HOME) is None


def test_another_login_users_agents_stay_and_are_named() -> None:
    own, others = (Trace("directory", f"/home/{name}/.rigup/agent") for name in ("ml", "admin"))
    survey = Survey({own: PRESENT, others: PRESENT})
    removal = planned(survey, own, others)
    assert shown(removal) == ["remove the agent's builds in /home/ml/.rigup/agent"]
    assert removal.stays == (
        "/home/admin/.rigup/agent: another login user's; uninstall as that user, too",
    )


def test_packages_go_with_what_they_brought_and_nothing_else() -> None:
    recorded = Trace("package", "docker.io"), Trace("hold", "docker.io")
    survey = Survey(
        dict.fromkeys(recorded, PRESENT),
        goes=frozenset({"docker.io"}),
        brought=frozenset({"docker.io", "runc", "old-orphan", "git", "wanted"}),
        orphans=frozenset({"old-orphan"}),
        manual=frozenset({"docker.io", "wanted"}),
        before=frozenset({"bash", "git"}),
    )
    removal = planned(survey, *recorded)
    assert shown(removal)[:2] == ["sudo apt-mark unhold docker.io", "apt-get remove docker.io runc"]
    assert removal.stays == ()


def test_a_package_that_somebody_elses_needs_stays() -> None:
    recorded = Trace("package", "docker.io")
    survey = Survey(
        {recorded: PRESENT},
        goes=frozenset({"docker.io", "docker-compose"}),
        manual=frozenset({"docker-compose"}),
    )
    assert planned(survey, recorded) == Removal((), ("docker.io: needed by docker-compose",))
    by_rpm = Survey({recorded: PRESENT}, needed_by=frozenset({"compose-2.1-1.noarch"}))
    assert "needed by compose" in planned(by_rpm, recorded).stays[0]


def test_a_package_from_before_rigup_stays_whatever_the_journal_says() -> None:
    recorded = Trace("package", "docker.io")
    survey = Survey({recorded: PRESENT}, before=frozenset({"docker.io"}))
    assert planned(survey, recorded) == Removal((), ("docker.io: installed before rigup came",))


def test_a_file_goes_only_with_the_content_that_rigup_gave_it() -> None:
    first = Trace("file", "/etc/profile.d/rigup-network.sh", "sha256:aa")
    second = Trace("file", "/etc/profile.d/rigup-network.sh", "sha256:bb")
    for found in ("sha256:aa", "sha256:bb"):
        removal = planned(Survey({first: found, second: found}), first, second)
        assert shown(removal) == ["remove /etc/profile.d/rigup-network.sh"]
    changed = planned(Survey({first: "sha256:cc", second: "sha256:cc"}), first, second)
    assert changed == Removal((), ("/etc/profile.d/rigup-network.sh: changed since",))
    assert planned(Survey({first: ABSENT, second: ABSENT}), first, second) == Removal()


def test_who_must_hear_of_a_removed_file_does() -> None:
    drop_in = Trace("file", "/etc/systemd/system/docker.service.d/rigup-proxy.conf")
    blacklist = Trace("file", "/etc/modprobe.d/rigup-nouveau.conf")
    authority = Trace("file", "/usr/local/share/ca-certificates/rigup-a.crt")
    traces = (drop_in, blacklist, authority)
    told = shown(planned(Survey(dict.fromkeys(traces, "sha256:aa")), *traces))
    assert told[3:] == [
        "sudo systemctl daemon-reload",
        "sudo update-ca-certificates",
        "update-initramfs -u -k all",
    ]


def test_files_in_the_home_are_removed_as_their_owner() -> None:
    unit = Trace("file", f"{HOME}/.config/systemd/user/rigup-agent.service")
    [action] = planned(Survey({unit: "sha256:aa"}), unit).actions
    transport = FakeTransport()
    action.apply(transport)
    assert not transport.commands[0].sudo


def test_everything_else_is_undone_by_its_own_command() -> None:
    traces = (
        Trace("unit", "docker.service"),
        Trace("linger", "ml"),
        Trace("group-member", "ml", "docker"),
        Trace("directory", f"{HOME}/.rigup/agent"),
        Trace("command", "dnf module enable x"),
    )
    removal = planned(Survey(dict.fromkeys(traces, PRESENT)), *traces)
    assert shown(removal) == [
        "sudo systemctl disable --now docker.service",
        "sudo loginctl disable-linger ml",
        "sudo gpasswd -d ml docker",
        f"remove the agent's builds in {HOME}/.rigup/agent",
    ]
    assert removal.for_good == ("dnf module enable x",)


def keys(before: dict[str, Any], *wishes: Wish) -> tuple[dict[str, Any], str]:
    merged = merge(before, wishes)
    return json.loads(merged.text), merged.trace


@pytest.mark.parametrize(
    "before",
    [
        {},
        {"dns": ["192.0.2.1"]},
        {"log-opts": {"tag": "x"}},
        {"insecure-registries": ["a"], "live-restore": False},
    ],
)
def test_merged_keys_come_out_again(before: dict[str, Any]) -> None:
    content, detail = keys(
        before,
        Wish(("log-opts", "max-size"), "100m"),
        Wish(("live-restore",), True),
        Wish(("insecure-registries",), ["a", "b"]),
        Wish(("runtimes", "nvidia"), {"path": "nvidia-container-runtime"}),
    )
    assert content != before
    assert list(take_back(content, detail)) == []
    assert content == before


def test_a_key_that_was_changed_since_stays() -> None:
    content, detail = keys({}, Wish(("live-restore",), True), Wish(("log-opts", "max-file"), "5"))
    content["live-restore"] = False
    content["log-opts"]["tag"] = "mine"
    assert list(take_back(content, detail)) == ["live-restore was changed since"]
    assert content == {"live-restore": False, "log-opts": {"tag": "mine"}}


@pytest.mark.parametrize(
    "detail", ["", "x", "{}", "3", '[{"path": []}]', '[{"path": [1]}]', "[[]]"]
)
def test_keys_that_were_not_recorded_well_stay(detail: str) -> None:
    content = {"a": 1}
    assert detail == "{}" or len(list(take_back(content, detail))) == 1
    assert content == {"a": 1}


def test_a_json_file_that_held_nothing_else_goes() -> None:
    content, detail = keys({}, Wish(("live-restore",), True))
    record = Trace("json-keys", DAEMON, detail)
    encoded = base64.b64encode(json.dumps(content).encode()).decode()
    assert shown(planned(Survey({record: f"json:{encoded}"}), record)) == [f"remove {DAEMON}"]
    garbled = Survey({record: "json:" + base64.b64encode(b"{half").decode()})
    assert planned(garbled, record).stays == (f"{DAEMON} holds no JSON object any more",)


def test_a_survey_is_read_however_the_host_answers() -> None:
    traces = [Trace("package", "a"), Trace("file", "/etc/apt/rigup")]
    survey = parse(
        "state|0|present\nstate|1|sha256:aa\nstate|9|x\nstate|x\ngoes|a:amd64\n?", traces
    )
    assert [survey.state(trace) for trace in traces] == ["present", "sha256:aa"]
    assert survey.goes == {"a"}


@dataclass
class Machine(ScriptedHost):
    """``there``: what of the journal is still on the host; deeds remove it, unless ``stubborn``."""

    lines: list[str] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    stubborn: bool = False
    kept: str | None = None
    forgotten: bool = False

    def answer(self, command: Command) -> Result:
        text = str(command)
        if "journal.jsonl" in text and 'cat -- "$1"' in text:
            return Result(command, 0, "".join(f"{line}\n" for line in self.lines).encode())
        if "showmanual" in text:
            return Result(command, 0, self._survey(command))
        if command.words[0] == "rm":
            self.forgotten = True
        if 'cat > "$temporary"' in text:
            self.kept = (command.stdin or b"").decode()
        if "loginctl" in text and not self.stubborn and command.words[0] == "loginctl":
            self.there.discard(command.words[2])
        return super().answer(command)

    def _survey(self, command: Command) -> bytes:
        assert command.stdin is not None
        rows = [line.split("\t") for line in command.stdin.decode().splitlines()]
        states = [PRESENT if row[1] in self.there else ABSENT for row in rows]
        return "".join(f"state|{n}|{state}\n" for n, state in enumerate(states)).encode()


def machine(*names: str, **options: Any) -> Machine:
    """One on which rigup made the named users linger, each in a step of its own name."""
    lines = journal.render(Entry(name, Trace("linger", name)) for name in names).splitlines()
    made = Machine(lines=lines, there=set(names), **options)
    made.sections["occupants"] = "boot|b\n"
    return made


Agree = Callable[[str, str], bool]


def run(host: Machine, **wishes: Any) -> tuple[HostReport, list[str]]:
    transport = host.transport()
    job = Job(Host("gpu01", "gpu01"), transport)
    report = uninstall(job, Removing(**wishes), lambda *words: None)
    done = [str(c) for c in transport.commands if c.words[0] in ("loginctl", "rm")]
    return report, done


def test_steps_are_taken_back_in_reverse_and_the_journal_goes_last() -> None:
    host = machine("docker", "agent")
    report, done = run(host)
    assert report.error is None
    assert [(step.step, step.status) for step in report.steps] == [
        ("agent", "changed"),
        ("docker", "changed"),
    ]
    assert done == [
        "sudo loginctl disable-linger agent",
        "sudo loginctl disable-linger docker",
        "sudo rm -rf -- /var/lib/rigup",
    ]


def test_check_shows_it_and_touches_nothing() -> None:
    host = machine("docker")
    report, done = run(host, only_check=True)
    assert report.steps[0].status == "would-change"
    assert report.steps[0].actions == ("sudo loginctl disable-linger docker",)
    assert done == []
    assert host.there == {"docker"}


def test_a_person_sees_it_first_and_may_refuse() -> None:
    asked: list[tuple[str, str]] = []
    report, done = run(
        machine("docker"), agree=lambda host, what: asked.append((host, what)) or False
    )
    assert report.exit_code == ExitCode.BLOCKED
    assert asked == [("gpu01", "  docker: sudo loginctl disable-linger docker")]
    assert done == []


def test_what_is_to_be_kept_stays_and_stays_recorded() -> None:
    host = machine("docker", "agent")
    report, done = run(host, keep=("docker",))
    assert [step.step for step in report.steps] == ["agent"]
    assert done == ["sudo loginctl disable-linger agent"]
    assert host.kept is not None
    kept, _ = journal.parse(host.kept)
    assert [entry.step for entry in kept] == ["docker"]


def test_after_a_kill_the_rest_is_done() -> None:
    host = machine("docker", "agent")
    host.there = {"docker"}
    report, _ = run(host)
    assert [(step.step, step.status) for step in report.steps] == [
        ("agent", "ok"),
        ("docker", "changed"),
    ]
    nothing = machine()
    again, done = run(nothing)
    assert (again.error, again.steps, again.changed) == (None, (), 0)
    assert (done, nothing.forgotten) == ([], False)


def test_running_jobs_forbid_it() -> None:
    host = machine("docker")
    host.sections["occupants"] = (
        "boot|b\n"
        'job|ann|/home/ann/.rigup/jobs/train-1/state.json|{"state":"running","boot_id":"b"}\n'
    )
    report, done = run(host)
    assert isinstance(report.error, BlockedError)
    assert "train-1 of ann" in report.error.message
    assert done == []


def test_running_containers_forbid_it_where_docker_goes() -> None:
    info = 'installed=1\nactive=1\ninfo={"ServerVersion":"29","ContainersRunning":2}'
    host = machine("docker", "agent")
    host.sections["docker"] = info
    report, _ = run(host)
    assert isinstance(report.error, BlockedError)
    assert "--keep docker" in str(report.error.remedy)
    host = machine("docker", "agent")
    host.sections["docker"] = info
    assert run(host, keep=("docker",))[0].error is None


def test_what_does_not_go_is_an_error_and_stays_recorded() -> None:
    host = machine("docker", stubborn=True)
    report, _ = run(host)
    assert isinstance(report.error, StepFailed)
    assert "is still there" in report.error.message
    assert (host.forgotten, host.kept) == (False, None)


def test_garbled_and_hostile_lines_are_told_and_harm_nothing() -> None:
    host = machine("docker")
    host.lines += [
        "garbage",
        '{"step": "x", "kind": "file", "name": "/etc/shadow", "detail": "sha256:0", "at": ""}',
        '{"step": "x", "kind": "package", "name": "--purge", "detail": "", "at": ""}',
    ]
    report, _ = run(host)
    assert report.error is None
    told = "\n".join(report.stays)
    assert "line 2" in told
    assert "rigup writes no files like /etc/shadow" in told
    assert "'--purge' is no name of a package" in told
    assert [step.step for step in report.steps] == ["docker"]


def test_the_journal_lies_where_only_root_writes() -> None:
    assert PurePosixPath(journal.PATH).parent == PurePosixPath("/var/lib/rigup")
