"""`invoke doctor` as a user types it: a captured log, hosts that answer and hosts that do not."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tasks
from inventory import Host
from provisioner.doctor.examine import Diagnosis
from provisioner.doctor.finding import Finding
from provisioner.errors import ConnectError, RigupError, UnknownHostKey

INVENTORY = "hosts: {gpu01: {address: 192.0.2.1}, gpu02: {address: 192.0.2.2}}\n"
MISMATCH = b"Failed to initialize NVML: Driver/library version mismatch\n"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def rigup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory" / "hosts.yaml").write_text(INVENTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RIGUP_INVENTORY", raising=False)

    def run(*words: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["rigup", "doctor", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code: Any = 0
        try:
            tasks.main()
        except SystemExit as ended:
            code = ended.code or 0
        shown = capsys.readouterr()
        return Done(code, shown.out, shown.err)

    return run


Answers = dict[str, Diagnosis | RigupError]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What each host's examination ends with."""
    answers: Answers = {}

    def examine(host: Host, sudo_password: object = None) -> Diagnosis:
        answer = answers[host.name]
        if isinstance(answer, RigupError):
            raise answer
        return answer

    monkeypatch.setattr("provisioner.doctor.examine.examine_host", examine)
    return answers


def finding(severity: Any, name: str = "x", **fields: Any) -> Finding:
    told = {"cause": "it broke", "evidence": "a line", "where": "a log", "fix": "invoke jobs"}
    return Finding(name, severity, "gpu", **{**told, **fields})


HEALTHY = Diagnosis((), ("driver", "Docker"), simulated=False)
PROBLEM = Diagnosis((finding("problem"), finding("warning")), ("driver",), simulated=True)
WARNED = Diagnosis((finding("warning"), finding("note")), ("driver",), simulated=False)


def test_a_log_with_a_known_failure(rigup: Run, tmp_path: Path) -> None:
    (tmp_path / "train.log").write_bytes(b"epoch 1\n" + MISMATCH)
    done = rigup("--log", "train.log")
    assert done.code == 1
    assert done.out.splitlines()[0] == "train.log: 1 problem"
    assert "train.log, line 2: Failed to initialize NVML: Driver/library" in done.out
    assert "rigup provision --host HOST" in done.out


def test_a_log_from_standard_input_as_json(rigup: Run) -> None:
    done = rigup("--log", "-", "--json", stdin=MISMATCH)
    assert done.code == 1
    [found] = json.loads(done.out)["findings"]
    assert (found["id"], found["severity"]) == ("driver-library-mismatch", "problem")
    assert found["where"] == "standard input, line 1"


def test_a_log_without_anything_known(rigup: Run) -> None:
    done = rigup("--log", "-", stdin=b"all is well\n\xff\x00\n")
    assert (done.code, done.out) == (0, "standard input: nothing known was found\n")


def test_an_empty_log_is_called_empty(rigup: Run) -> None:
    """``dmesg | rigup doctor --log -`` without root: nothing came, so nothing is well."""
    assert rigup("--log", "-").out == "standard input (empty): nothing known was found\n"


def test_a_packed_log_is_not_called_well(rigup: Run, tmp_path: Path) -> None:
    (tmp_path / "dmesg.gz").write_bytes(gzip.compress(MISMATCH))
    for words, stdin in ((["dmesg.gz"], b""), (["-"], gzip.compress(MISMATCH))):
        done = rigup("--log", *words, stdin=stdin)
        assert done.code == 2
        assert "zcat FILE | rigup doctor --log -" in done.err


def test_a_log_needs_no_inventory(rigup: Run, tmp_path: Path) -> None:
    (tmp_path / "inventory" / "hosts.yaml").unlink()
    assert rigup("--log", "-").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--log", "nowhere.log"], ["--log nowhere.log", "No such file"]),
        (["--log", "."], ["--log .", "directory"]),
        (["--log", ""], ["--log"]),
        (["--log", "x", "--host", "gpu01"], ["asks no host"]),
        (["--log", "x", "--all"], ["asks no host"]),
        ([], ["--host"]),
        (["--host", "gpu9"], ["gpu9"]),
        (["--log"], ["log"]),
        (["--host", "gpu01", "--sudo-password-fd", "x"], ["--sudo-password-fd"]),
    ],
)
def test_wrong_input(rigup: Run, words: list[str], said: list[str]) -> None:
    done = rigup(*words)
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err
    for word in said:
        assert word in done.err


def test_a_healthy_host_says_what_was_checked(rigup: Run, hosts: Answers) -> None:
    hosts["gpu01"] = HEALTHY
    done = rigup("--host", "gpu01")
    assert (done.code, done.out) == (0, "gpu01: healthy\n  checked: driver, Docker\n")


def test_problems_come_first_and_make_it_fail(rigup: Run, hosts: Answers) -> None:
    hosts.update(gpu01=PROBLEM, gpu02=HEALTHY)
    done = rigup("--all")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0].startswith("gpu01: 1 problem, 1 warning  [SIMULATED")
    assert [line[:4] for line in lines if line[:4] in ("  x ", "  ! ")] == ["  x ", "  ! "]
    assert "      fix:    rigup jobs" in lines
    assert "gpu02: healthy" in lines


def test_warnings_alone_are_no_failure(rigup: Run, hosts: Answers) -> None:
    hosts["gpu01"] = WARNED
    done = rigup("--host", "gpu01")
    assert done.code == 0
    assert done.out.startswith("gpu01: 1 warning, 1 note\n")


def test_what_could_not_be_checked_is_no_health(rigup: Run, hosts: Answers) -> None:
    unread = Finding("unreadable", "unread", "kernel log", "c", "only root", "facts", "f")
    hosts["gpu01"] = Diagnosis((unread,), ("driver",), False, ("kernel log",))
    done = rigup("--host", "gpu01")
    assert done.code == 1
    assert done.out.startswith("gpu01: 1 could not be checked\n  ? kernel log: c\n")
    assert done.out.endswith("  not checked: kernel log\n")
    [row] = json.loads(rigup("--host", "gpu01", "--json").out)
    assert row["result"]["verdict"] == "unchecked"
    assert row["result"]["unchecked"] == ["kernel log"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectError("no route", host="gpu02"), 1),
        (UnknownHostKey("unknown key", fingerprint="SHA256:x", host="gpu02", remedy="trust"), 3),
    ],
)
def test_a_host_that_cannot_be_asked_is_an_error_and_hides_no_other(
    rigup: Run, hosts: Answers, error: RigupError, code: int
) -> None:
    hosts.update(gpu01=HEALTHY, gpu02=error)
    done = rigup("--all")
    assert done.code == code
    assert "gpu01: healthy" in done.out
    assert error.message in done.err
    hosts["gpu01"] = PROBLEM
    assert rigup("--all").code == 1


def test_json_of_hosts(rigup: Run, hosts: Answers) -> None:
    hosts.update(gpu01=PROBLEM, gpu02=ConnectError("no route"))
    done = rigup("--all", "--json")
    assert done.code == 1
    first, second = json.loads(done.out)
    assert first["result"]["findings"][0]["severity"] == "problem"
    assert first["result"]["simulated"] is True
    assert second["result"] is None
    assert second["error"]["message"] == "no route"


def test_what_a_host_says_does_not_reach_the_terminal_as_it_is(rigup: Run, hosts: Answers) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\u202e\nsecond line"
    hosts["gpu01"] = Diagnosis(
        (finding("problem", cause=evil, evidence=evil, where=evil, fix=evil, source=evil),),
        ("driver",),
        simulated=False,
    )
    done = rigup("--host", "gpu01")
    assert not set("\x1b\x07\u202e") & set(done.out)
    assert "\nsecond line" not in done.out
