"""The journal: what is recorded before a change, by the real script on a directory of this machine
with a scripted package database."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_host import ScriptedHost

from inventory import Host
from provisioner import journal
from provisioner.actions import Run, WriteFile
from provisioner.command import Command, Result
from provisioner.errors import CommandFailed
from provisioner.facts import Facts
from provisioner.facts.login import LoginFacts
from provisioner.facts.packages import PackageFacts
from provisioner.host_job import Job
from provisioner.journal import Entry
from provisioner.runner import provision
from provisioner.steps import Change, Outcome, Satisfied
from provisioner.traces import Trace, content_mark
from provisioner.transport.fake import FakeTransport

TOOLS = {
    "dpkg-query": """
case "$3" in
  *Package*) sed 's/^/installed /' "$STAND/packages" ;;
  *) grep -qx -- "$4" "$STAND/packages" && printf installed ;;
esac
""",
    "apt-mark": 'cat "$STAND/held"\n',
    "systemctl": 'for last; do :; done; grep -qx -- "$last" "$STAND/units"\n',
    "id": 'echo "ml docker"\n',
}
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
FACTS = Facts(
    {
        "login": LoginFacts("ml", "/home/ml", False, True, ()),
        "packages": PackageFacts("apt", {}),
    }
)


@dataclass(frozen=True)
class Stand:
    """A machine that consists of a journal's directory and a few answers."""

    root: Path

    @property
    def journal(self) -> Path:
        return self.root / "state" / "journal.jsonl"

    def set(self, name: str, *lines: str) -> None:
        (self.root / name).write_text("".join(f"{line}\n" for line in lines))

    def record(self, *traces: Trace, step: str = "docker") -> list[dict[str, str]]:
        transport = FakeTransport(self._run)
        action = Run(Command.of("true"), traces=traces)
        journal.record(transport, step, [action], FACTS, now=lambda: NOON)
        return self.lines()

    def lines(self) -> list[dict[str, str]]:
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    def _run(self, command: Command) -> Result:
        assert command.sudo
        words = list(command.words)
        assert words[4:] == [journal.PATH, journal.BEFORE, "apt"]
        words[4:6] = [str(self.journal), str(self.root / "state" / "packages-before")]
        path = f"{self.root}/bin:/usr/bin:/bin"
        done = subprocess.run(
            words,
            input=command.stdin,
            env={"PATH": path, "STAND": str(self.root)},
            capture_output=True,
            check=False,
        )
        return Result(command, done.returncode, done.stdout, done.stderr)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    (tmp_path / "bin").mkdir()
    for name, body in TOOLS.items():
        tool = tmp_path / "bin" / name
        tool.write_text(f"#!/bin/sh\n{body}")
        tool.chmod(0o755)
    made = Stand(tmp_path)
    made.set("packages", "bash", "openssl")
    made.set("held")
    made.set("units", "ssh.service")
    return made


def named(lines: list[dict[str, str]]) -> list[str]:
    return [f"{line['kind']} {line['name']}" for line in lines]


def test_what_will_be_put_there_is_recorded_with_its_step(stand: Stand) -> None:
    [line] = stand.record(Trace("package", "docker.io"))
    assert line == {
        "step": "docker",
        "kind": "package",
        "name": "docker.io",
        "detail": "",
        "at": "2026-11-21T12:00:00Z",
    }
    before = (stand.root / "state" / "packages-before").read_text().split()
    assert before == ["bash", "openssl"]


def test_what_was_there_before_is_not_rigups(stand: Stand, tmp_path: Path) -> None:
    mine = tmp_path / "there"
    mine.touch()
    stand.set("held", "bash")
    lines = stand.record(
        Trace("package", "bash"),
        Trace("file", str(mine)),
        Trace("directory", str(tmp_path)),
        Trace("unit", "ssh.service"),
        Trace("hold", "bash"),
        Trace("group-member", "ml", "docker"),
        Trace("package", "docker.io"),
        Trace("file", str(tmp_path / "new")),
        Trace("unit", "docker.service"),
        Trace("hold", "docker.io"),
        Trace("group-member", "ml", "video"),
        Trace("command", "dnf module enable x"),
    )
    assert named(lines) == [
        "package docker.io",
        f"file {tmp_path / 'new'}",
        "unit docker.service",
        "hold docker.io",
        "group-member ml",
        "command dnf module enable x",
    ]
    assert lines[4]["detail"] == "video"


def test_a_second_record_of_the_same_adds_nothing(stand: Stand) -> None:
    stand.record(Trace("package", "docker.io"), Trace("command", "x"))
    assert len(stand.record(Trace("package", "docker.io"), Trace("command", "x"))) == 2


def test_new_content_of_rigups_own_file_is_recorded_too(stand: Stand, tmp_path: Path) -> None:
    own = tmp_path / "rigup.conf"
    stand.record(Trace("file", str(own), content_mark(b"one")))
    own.write_text("one")
    lines = stand.record(Trace("file", str(own), content_mark(b"two")))
    assert [line["detail"] for line in lines] == [content_mark(b"one"), content_mark(b"two")]


def test_the_list_of_packages_is_that_of_the_first_time(stand: Stand) -> None:
    stand.record(Trace("package", "docker.io"))
    stand.set("packages", "bash", "openssl", "docker.io", "runc")
    stand.record(Trace("package", "nvidia-open"))
    assert "runc" not in (stand.root / "state" / "packages-before").read_text()


def test_a_line_that_a_power_cut_left_behind_is_ended_first(stand: Stand) -> None:
    stand.record(Trace("command", "one"))
    stand.journal.write_bytes(stand.journal.read_bytes() + b'{"step": "dr')
    transport_lines = stand.journal.read_text()
    assert not transport_lines.endswith("\n")
    journal.record(
        FakeTransport(stand._run),
        "docker",
        [Run(Command.of("x"), traces=(Trace("command", "two"),))],
        FACTS,
    )
    entries, complaints = journal.parse(stand.journal.read_text())
    assert [entry.trace.name for entry in entries] == ["one", "two"]
    assert len(complaints) == 1


def test_paths_of_the_login_user_are_made_absolute(stand: Stand) -> None:
    lines = stand.record(Trace("file", "~/.config/x"), Trace("directory", ".rigup/agent"))
    assert named(lines) == ["file /home/ml/.config/x", "directory /home/ml/.rigup/agent"]


def test_actions_that_leave_nothing_cost_no_round_trip() -> None:
    transport = FakeTransport()
    journal.record(transport, "driver", [Run(Command.of("modprobe", "nvidia"))], FACTS)
    assert transport.commands == []


def test_nothing_is_applied_when_it_cannot_be_recorded() -> None:
    done: list[str] = []

    class Step:
        name = "one"

        def check(self, facts: Facts, host: Host) -> Outcome:
            write = WriteFile(PurePosixPath("/etc/modprobe.d/rigup.conf"), "x")
            return Change("missing", (write,)) if not done else Satisfied("there")

    host = ScriptedHost()

    def answer(command: Command) -> Result:
        if "packages-before" in " ".join(command.words):
            return Result(command, 1, b"", b"No space left on device")
        if "cat >" in str(command):
            done.append("written")
        return host.answer(command)

    job = Job(Host("gpu01", "gpu01"), FakeTransport(answer))
    report = provision(job, (Step(),), lambda *words: None)
    assert isinstance(report.error, CommandFailed)
    assert "No space left" in report.error.message
    assert done == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not json",
        "[1]",
        '{"kind": "package", "name": 3}',
        '{"kind": "virus", "name": "x"}',
        '{"kind": "package", "name": ""}',
        '{"kind": "package", "name": "a\\u001b[2J"}',
        '{"kind": "file", "name": "/etc/x\\ny"}',
        "[" * 100_000,
    ],
)
def test_a_garbled_line_is_reported_and_hides_no_other(line: str) -> None:
    good = '{"step": "a", "kind": "package", "name": "x", "detail": "", "at": ""}'
    entries, complaints = journal.parse(f"{good}\n{line}\n{good}\n")
    assert len(entries) == 2
    assert len(complaints) == (1 if line else 0)


@given(
    st.lists(
        st.builds(
            Entry,
            st.text(max_size=10),
            st.builds(
                Trace,
                st.sampled_from(journal.KINDS),
                st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1),
                st.text(max_size=30),
            ),
            st.text(max_size=10),
        ),
        max_size=5,
    )
)
def test_what_is_rendered_is_parsed_again(entries: list[Entry]) -> None:
    assert journal.parse(journal.render(entries)) == (tuple(entries), ())


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_the_script_is_sound() -> None:
    checked = subprocess.run(
        ["shellcheck", "-s", "sh", "-"], input=journal.RECORD.encode(), capture_output=True
    )
    assert checked.returncode == 0, checked.stdout.decode()
