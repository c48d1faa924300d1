"""A tunnel that ends with the program, and its port on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provisioner.containers.ssh_fragment import fragment_file, ssh_words
from provisioner.containers.tunnel import free_port, tunnel_words
from provisioner.errors import UsageError

HOLD = """
import signal, sys
from provisioner.containers import tunnel
signal.signal(signal.SIGINT, signal.default_int_handler)
tunnel.tunnel_words = lambda *words: [sys.executable, "-c", "import time; time.sleep(120)"]
print("ready", flush=True)
sys.exit(tunnel.run_tunnel("alias", 8888, 8888))
"""
"""Tests that run in the background inherit from their shell that SIGINT is ignored."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path / "rigup"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_tunnel_ends_on_loopback_at_both_ends() -> None:
    words = tunnel_words("lab01-torch", 8888, 9000)
    assert words[words.index("-L") + 1] == "127.0.0.1:9000:127.0.0.1:8888"
    assert words[-2:] == ["--", "lab01-torch"]
    assert words[:2] == ["ssh", "-F"]


def test_a_taken_port_is_refused_or_passed_by() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)):
            free_port(port, 8888)
        assert free_port(None, port) > port


def _children(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True
    )
    return [int(word) for word in listed.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death signal is Linux's")
@pytest.mark.parametrize(
    "ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL], ids=str
)
def test_no_tunnel_outlives_the_program(ending: signal.Signals) -> None:
    program = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 30
    while not (children := _children(program.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)  # until the child has become the other program
    program.send_signal(ending)
    try:
        program.wait(30)
    finally:
        program.kill()
        program.stdout.close()
    while any(os.path.exists(f"/proc/{child}") for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)


ENDS = """
import sys
from provisioner.containers import tunnel
tunnel.tunnel_words = lambda *words: [sys.executable, "-c", "import sys; sys.exit(255)"]
try:
    tunnel.run_tunnel("alias", 8888, 8888)
except tunnel.RigupError as error:
    print(int(error.exit_code), error)
"""


def test_a_tunnel_that_ends_by_itself_is_an_error_with_a_remedy() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 the tunnel to alias ended (ssh exited with 255)")
    assert "try: " in done.stdout


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_program_that_was_asked_to_end_says_so(ending: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 30
        while not _children(program.pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)  # until the signals are handled
        program.send_signal(ending)
        assert program.wait(30) == 128 + ending


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs ssh")
def test_a_shared_connection_carries_no_tunnel(home: Path) -> None:
    """Its master is another process, and would go on with the tunnel."""
    (home / ".ssh").mkdir()
    shared = "Host *\n  ControlMaster auto\n  ControlPath /tmp/%C\n  ControlPersist 10m\n"
    (home / ".ssh" / "config").write_text(shared + "  RemoteCommand top\n")
    words = tunnel_words("gpu01-torch", 8888, 9000)
    asked = [*words[:3], "-G", *words[4:]]  # in place of -N
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    settings = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert settings["controlmaster"] == "false"
    assert settings.get("controlpath", "none") == "none"
    assert settings.get("remotecommand", "none") == "none"


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs ssh")
def test_rigups_own_alias_comes_before_anything_in_the_users_configuration(home: Path) -> None:
    fragment_file().parent.mkdir()
    fragment_file().write_text("Host gpu01-torch\n  HostName 127.0.0.1\n  Port 22200\n")
    (home / ".ssh").mkdir()
    other = "Host gpu01-torch\n  HostName 192.0.2.66\n  Port 9\n  User ann\n"
    (home / ".ssh" / "config").write_text(other)
    done = subprocess.run(
        [*ssh_words(), "-G", "gpu01-torch"], capture_output=True, text=True, check=True
    )
    settings = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert (settings["hostname"], settings["port"]) == ("127.0.0.1", "22200")
