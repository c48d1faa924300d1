"""Whatever interrupts a run, the next one ends verified: ctrl-c, kill -9 of the client at every
step, kill -9 of the package manager on the host."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from bare_host import strip
from lab_program import PROGRAM, LabHostShell, Rigup, wait_for

pytestmark = pytest.mark.e2e

Shell = Callable[[str], LabHostShell]


class Client:
    """A run of the program whose progress can be watched, and which can be shot."""

    def __init__(self, rigup: Rigup, *words: str) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *words],
            env=rigup.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.lines.append(line)

    def said(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in list(self.lines))

    def wait_until_said(self, *words: str, seconds: float = 180) -> bool:
        """False where the program ends without having said it."""
        deadline = time.monotonic() + seconds
        while not self.said(*words):
            if self.process.poll() is not None:
                self._reader.join(5)
                return self.said(*words)
            assert time.monotonic() < deadline, (words, self.lines)
            time.sleep(0.02)
        return True

    def changing(self, known: list[str]) -> str | None:
        """The first step that begins to change something and is none of ``known``; None where the
        program ends before."""
        while True:
            ended = self.process.poll() is not None
            if ended:
                self._reader.join(5)
            for line in list(self.lines):
                found = re.match(r"\S+ +(\w+) +changing: ", line)
                if found and found[1] not in known:
                    return found[1]
            if ended:
                return None
            time.sleep(0.02)

    def end(self, seconds: float = 300) -> tuple[int, str]:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            out = stream.read()
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code, out + "".join(self.lines)

    def kill(self) -> None:
        self.process.kill()
        self.end()


def is_converged(rigup: Rigup, host: str) -> None:
    rigup.ok("provision", "--host", host, timeout=900)
    [report] = rigup.ok("provision", "--host", host, "--json").json
    assert (report["changed"], report["status"]) == (0, "ok"), report
    assert report["proofs"]


@pytest.fixture
def fresh(spare_shell: Shell) -> Shell:
    """A host as it was before rigup."""
    return lambda name: strip(spare_shell(name))


def test_a_client_killed_at_every_step_on_both_hosts(spare: Rigup, fresh: Shell) -> None:
    """Each run goes on where the one before was killed, and is killed one step further on."""

    def one_host(name: str) -> list[str]:
        fresh(name)
        killed: list[str] = []
        while True:
            client = Client(spare, "provision", "--host", name)
            step = client.changing(killed)
            if step is None:
                code, said = client.end()
                assert code == 0, said
                break
            client.kill()
            killed.append(step)
        is_converged(spare, name)
        return killed

    with ThreadPoolExecutor() as pool:
        for killed in pool.map(one_host, ("lab01", "lab02")):
            assert {"docker", "driver", "toolkit", "agent"} <= set(killed)


def test_a_package_manager_killed_while_it_installs(spare: Rigup, fresh: Shell) -> None:
    def one_host(name: str, program: str) -> None:
        host = fresh(name)
        client = Client(spare, "provision", "--host", name)
        unpacking = "pgrep -f '^/usr/bin/dpkg .*--unpac[k]' >/dev/null"
        shot = f"{unpacking} && pkill -9 -x {program} && echo shot"
        wait_for(lambda: "shot" in host.run(shot, check=False), program, seconds=180)
        code, said = client.end()
        assert code == 1, said
        is_converged(spare, name)
        assert host.run("dpkg --audit") == ""

    with ThreadPoolExecutor() as pool:
        list(pool.map(one_host, ("lab01", "lab02"), ("dpkg", "apt-get")))


def test_signals_end_a_run_between_two_actions_and_say_where_each_host_stands(
    spare: Rigup, fresh: Shell
) -> None:
    """Ctrl-C, then SIGTERM, then ctrl-c twice, each in a later step of the same host."""
    host = fresh("lab01")
    words = ("provision", "--host", "lab01,lab02", "--serial", "1")
    code, said = _signalled(spare, words, "apt-get install docker.io", signal.SIGINT)
    assert code == 130, said
    assert "stopping: nothing new is started" in said
    assert "lab01: INTERRUPTED" in said
    assert "not reached: " in said
    assert "lab02: not started" in said
    assert "2 hosts: 1 interrupted, 1 not-started" in said

    words = ("provision", "--host", "lab01")
    code, said = _signalled(spare, words, "apt-get install nvidia-open", signal.SIGTERM)
    assert code == 130, said
    assert "lab01: INTERRUPTED" in said
    assert "  - driver: " in said
    wait_for(lambda: host.run("pgrep -x apt-get", check=False) == "", "apt-get's own end")
    assert host.run("dpkg --audit") == ""

    code, said = _signalled(
        spare, words, "apt-get install nvidia-container-toolkit", signal.SIGINT, signal.SIGINT
    )
    assert code == 130, said
    assert "lab01: " not in said
    is_converged(spare, "lab01")


def _signalled(
    rigup: Rigup, words: tuple[str, ...], line: str, *signals: signal.Signals
) -> tuple[int, str]:
    client = Client(rigup, *words)
    assert client.wait_until_said(line), client.lines
    for number in signals:
        client.process.send_signal(number)
        assert client.wait_until_said("stopping:")
    return client.end()


def test_a_host_that_takes_too_long_is_left_and_named(spare: Rigup, fresh: Shell) -> None:
    fresh("lab02")
    done = spare("provision", "--host", "lab02", "--timeout", "4", "--json")
    assert done.code == 1, done.said
    [report] = done.json
    assert report["error"]["kind"] == "OutOfTime"
    assert "--timeout" in report["error"]["message"]
    assert report["steps"][-1]["status"] == "interrupted"
    assert report["pending"]
    is_converged(spare, "lab02")
