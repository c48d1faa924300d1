"""A package manager whose reader is gone goes on to its end; with a reader, nothing changes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from provisioner.command import Command, Result
from provisioner.transport.fake import FakeTransport
from provisioner.transport.outliving import OutlivingTransport, outliving

TALKS = """\
#!/bin/sh
echo to stdout; echo to stderr >&2
cat
for line in 1 2 3 4 5 6 7 8; do echo "line $line" || exit 99; sleep 0.02; done
echo "$1" > "$2"
exit 3
"""


@pytest.fixture
def dnf(tmp_path: Path) -> Path:
    """A program of that name that talks a lot, writes a file in the end and exits with 3."""
    program = tmp_path / "dnf"
    program.write_text(TALKS)
    program.chmod(0o755)
    return program


def test_streams_input_and_exit_code_stay_what_they_are(dnf: Path, tmp_path: Path) -> None:
    plain = Command.of(str(dnf), "a b $x", str(tmp_path / "out"))
    wrapped = outliving(plain)
    assert wrapped != plain
    done = [
        subprocess.run(command.words, input=b"typed\n", capture_output=True)
        for command in (plain, wrapped)
    ]
    assert done[1].returncode == done[0].returncode == 3
    assert done[1].stdout == done[0].stdout
    assert done[1].stderr == done[0].stderr == b"to stderr\n"
    assert (tmp_path / "out").read_text() == "a b $x\n"


@pytest.mark.parametrize(("wrap", "survives"), [(True, True), (False, False)])
def test_without_a_reader_it_goes_on_to_its_end(
    dnf: Path, tmp_path: Path, wrap: bool, survives: bool
) -> None:
    out = tmp_path / "out"
    command = Command.of(str(dnf), "done", str(out))
    words = (outliving(command) if wrap else command).words
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    process.stderr.close()
    process.wait(10)
    deadline = time.monotonic() + (5 if survives else 0.5)
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert out.exists() is survives


@pytest.mark.parametrize(
    ("words", "wrapped"),
    [
        (("env", "A=b", "apt-get", "install"), True),
        (("env", "A=b", "C=d", "dnf", "install"), True),
        (("sh", "-c", "script", "zypper", "install"), True),
        (("/usr/bin/rpm", "-e", "x"), True),
        (("systemctl", "restart", "docker"), False),
        (("docker", "run", "--rm", "x"), False),
        (("sh", "-s"), False),
    ],
)
def test_only_what_must_not_be_cut_is_wrapped(words: tuple[str, ...], wrapped: bool) -> None:
    assert (outliving(Command(words)) != Command(words)) is wrapped


def test_errors_and_reports_show_the_command_itself() -> None:
    inner = FakeTransport(lambda command: Result(command, 1, b"", b"E: no"))
    command = Command.of("apt-get", "install", "x", sudo=True, timeout_s=9)
    result = OutlivingTransport(inner).run(command)
    assert result.command is command
    assert inner.commands[0].sudo
    assert inner.commands[0].timeout_s == 9
