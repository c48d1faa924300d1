"""What a detached process keeps of the connection that started it: nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from remote_agent import detach
from remote_agent.detach import lasting_environment, spawn_detached

REPORT = """
import os, signal, sys, time
told = [os.getcwd(), os.getsid(0) != int(sys.argv[2]), os.getppid() != int(sys.argv[3])]
told.append(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
told.append([os.readlink('/proc/self/fd/%d' % fd) for fd in (0, 1)])
told.append(os.environ.get('SSH_CONNECTION'))
told.append(os.path.exists('/proc/self/fd/' + sys.argv[4]))
open(sys.argv[1] + '.new', 'w').write(repr(told)); os.rename(sys.argv[1] + '.new', sys.argv[1])
"""


def test_a_detached_process_stands_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4 5")
    kept = os.open(os.devnull, os.O_RDONLY)
    report = tmp_path / "report"
    arguments = [str(report), str(os.getsid(0)), str(os.getpid()), str(kept)]
    spawn_detached([sys.executable, "-c", REPORT, *arguments], keep=(kept,))
    os.close(kept)
    deadline = time.monotonic() + 20
    while not report.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    nothing = [os.devnull, os.devnull]
    assert report.read_text() == repr(["/", True, True, True, nothing, None, True])


def test_an_enclosing_job_is_not_inherited(monkeypatch):
    """Else stopping the outer job would end the inner one's supervisor."""
    monkeypatch.setenv("RIGUP_JOB_ID", "outer")
    monkeypatch.setenv("HOME", "/home/u")
    assert "RIGUP_JOB_ID" not in lasting_environment()
    assert lasting_environment()["HOME"] == "/home/u"


def test_errors_go_to_the_named_file(tmp_path):
    errors = Path(tmp_path / "errors")
    spawn_detached(["sh", "-c", "echo broken >&2"], errors=str(errors))
    deadline = time.monotonic() + 20
    while not errors.exists() or errors.read_text() != "broken\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)


SCOPES = {
    "works": ("sh", "-c", 'exec "$@"', "systemd-run"),
    "refused": ("sh", "-c", "echo no manager >&2; exit 1", "systemd-run"),
    "absent": ("/no/such/systemd-run",),
    "silent": ("sh", "-c", "exec sleep 1000", "systemd-run"),
    "ends at once": ("true",),
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES.keys())
def test_it_starts_once_whatever_becomes_of_its_scope(tmp_path, monkeypatch, scope):
    monkeypatch.setattr(detach, "SCOPE_LIMIT_S", 0.2)
    started, kept = tmp_path / "started", os.open(os.devnull, os.O_RDONLY)
    script = (
        "test -e /proc/self/fd/$2 || exit; output=$(readlink /proc/$$/fd/1); "
        'printf "%s\\n%s\\n" "$output" $$ >>"$1"'
    )
    words = ["sh", "-c", script, "sh", str(started), str(kept)]
    spawn_detached(words, errors=str(tmp_path / "errors"), keep=(kept,), scope=scope)
    os.close(kept)
    deadline = time.monotonic() + 20
    while not started.exists() or len(started.read_text().splitlines()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    output, pid = started.read_text().splitlines()
    assert (output, pid.isdigit()) == (os.devnull, True)


def test_no_signal_is_blocked_for_it(tmp_path):
    """A supervisor blocks some; what it starts must end at a shutdown."""
    told = tmp_path / "told"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])
    try:
        script = 'grep SigBlk /proc/self/status >"$1.new"; mv "$1.new" "$1"'
        spawn_detached(["sh", "-c", script, "sh", str(told)])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    deadline = time.monotonic() + 20
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert int(told.read_text().split()[1], 16) == 0


def test_systemd_run_finds_the_users_manager_without_a_login_session(monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os.path, "isdir", lambda path: path == f"/run/user/{os.geteuid()}")
    assert lasting_environment()["XDG_RUNTIME_DIR"] == f"/run/user/{os.geteuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/elsewhere")
    assert lasting_environment()["XDG_RUNTIME_DIR"] == "/run/elsewhere"
