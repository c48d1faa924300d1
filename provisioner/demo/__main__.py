"""``make demo``: facts, plan, agent, a detached training run, a lost link, the checkpoint.

Everything goes through the ``rigup`` program itself. Nothing outside ``.demo/`` is changed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import asyncssh
import yaml

TRAIN_ARGUMENTS = ("--max_steps", "60")
DEADLINE_S = 600.0
LINK_DOWN_S = 3.0
HOST = "demo"


class DemoFailed(Exception):
    """Something did not work; the message says what."""


class Demo:
    """One run in one directory, wiped at the start."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.host_state = directory / "host"
        self.outputs = directory / "outputs"
        self.picture = directory / "dashboard.svg"
        self.port = _free_port()
        self._server: subprocess.Popen[str] | None = None
        self._follower: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "RIGUP_HOME": str(self.home),
            "RIGUP_INVENTORY": str(self.home / "hosts.yaml"),
            "PYTHONUNBUFFERED": "1",
        }

    def run(self) -> str:
        """The whole story; returns the closing line."""
        self._prepare()
        self.start_server()
        self._say("host key, facts and plan (nothing is installed)")
        self._rigup("trust", "--host", HOST, "--yes")
        self._rigup("facts", "--host", HOST)
        self._rigup("provision", "--host", HOST, "--check", allowed=(0, 3))
        self._say("train finetune_llama.py, detached")
        job = self._rigup(
            "train", "--script", "finetune_llama.py", "--host", HOST, "--runtime", "process",
            "--gpus", "0", "--", *TRAIN_ARGUMENTS,
        ).strip()  # fmt: skip
        record = self._follow_through_a_lost_link(job)
        self._say("outputs and dashboard")
        self._rigup("pull", job, "--to", str(self.outputs))
        self._rigup("dashboard", "--screenshot", str(self.picture))
        checkpoint = self._checkpoint()
        return f"demo: ok host={HOST} job={job} state={record} checkpoint={checkpoint}"

    def close(self) -> None:
        """End the follower and the server; jobs of a failed demo are stopped with them."""
        if self._follower is not None:
            self._follower.kill()
            self._follower.wait()
        if self._server is not None and self._server.poll() is None:
            self._stop_jobs()
        self.stop_server()

    def start_server(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "provisioner.demo.server", str(self.port)]
            + [str(self.directory / name) for name in ("host_key", "id_demo.pub")],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self._server.stdout is not None
        if self._server.stdout.readline().strip() != "ready":
            raise DemoFailed(f"the SSH server did not start on port {self.port}")

    def stop_server(self) -> None:
        """SIGKILL: every connection breaks without a goodbye."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            if self._server.stdout is not None:
                self._server.stdout.close()

    def _prepare(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.home.mkdir(parents=True, mode=0o700)
        for name in ("host_key", "id_demo"):
            key = asyncssh.generate_private_key("ssh-ed25519")
            path = self.directory / name
            path.touch(mode=0o600)
            key.write_private_key(str(path))
            key.write_public_key(f"{path}.pub")
        (self.home / "hosts.yaml").write_text(yaml.safe_dump({"hosts": {HOST: self._settings()}}))

    def _settings(self) -> dict[str, object]:
        return {
            "address": "127.0.0.1",
            "port": self.port,
            "identity_file": str(self.directory / "id_demo"),
            "python": sys.executable,
            "state_dir": str(self.host_state),
        }

    def _follow_through_a_lost_link(self, job: str) -> str:
        """Follow the log, kill the link in the middle, come back; every byte must arrive once."""
        log = self.directory / "followed.log"
        with log.open("wb") as sink:
            self._follower = follower = self._start("logs", job, "--follow", stdout=sink)
            self._wait_until(lambda: b"step" in log.read_bytes(), "the first training step")
            self._say(f"cutting the link for {LINK_DOWN_S:g} s; the job goes on")
            self.stop_server()
            time.sleep(LINK_DOWN_S)
            self.start_server()
            code = follower.wait(timeout=DEADLINE_S)
        print(log.read_text(errors="replace"), end="")
        record = json.loads(self._rigup("describe", job, "--json", quiet=True))["job"]
        if code != 0 or record["state"] != "succeeded":
            raise DemoFailed(f"the job ended as {record['state']}: {record.get('verdict')}")
        on_host = (self.host_state / "jobs" / job / "log").read_bytes()
        if on_host != log.read_bytes():
            raise DemoFailed("the followed log differs from the one on the host")
        self._say(f"all {len(on_host)} bytes of the log arrived exactly once")
        return str(record["state"])

    def _checkpoint(self) -> str:
        found = sorted(self.outputs.glob("final/adapter_model*"))
        if not found:
            raise DemoFailed(f"no adapter in {self.outputs}/final")
        return str(found[0])

    def _rigup(self, *words: str, allowed: tuple[int, ...] = (0,), quiet: bool = False) -> str:
        done = subprocess.run(
            _program(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        if not quiet:
            print(done.stdout, end="", flush=True)
        if done.returncode not in allowed:
            raise DemoFailed(f"`rigup {' '.join(words)}` ended with {done.returncode}")
        return done.stdout

    def _start(self, *words: str, stdout: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            _program(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
        )

    def _stop_jobs(self) -> None:
        for path in (self.home / "jobs-sent").glob("*"):
            subprocess.run(
                _program("stop", path.name, "--grace", "2"),
                env=self.environment,
                capture_output=True,
                timeout=60,
                check=False,
            )

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline or self._follower_failed():
                raise DemoFailed(f"never saw {what}")
            time.sleep(0.2)

    def _follower_failed(self) -> bool:
        return self._follower is not None and bool(self._follower.poll())

    def _say(self, text: str) -> None:
        print(f"\n== {text}", flush=True)


def _program(*words: str) -> list[str]:
    return [sys.executable, "-c", "import tasks; tasks.main()", *words]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Exit 0 with the closing line, 1 with what went wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    demo = Demo(Path(".demo").absolute())
    try:
        print(demo.run())
    except (DemoFailed, OSError, subprocess.TimeoutExpired) as error:
        print(f"demo: FAILED: {error}", file=sys.stderr)
        return 1
    finally:
        demo.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
