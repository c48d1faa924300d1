"""The local Docker engine, through its command line."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.errors import LabError

ERROR_LINES_SHOWN = 8
QUESTION_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Docker:
    """Runs ``docker …``. Every refusal and every failure becomes a :class:`LabError`."""

    program: str = "docker"
    question_timeout_s: float = QUESTION_TIMEOUT_S

    def require(self) -> None:
        """Say what is missing when the engine cannot be used: client, daemon or permission."""
        done = self.attempt("version", "--format", "{{.Server.Version}}", timeout_s=30)
        if done.returncode != 0:
            raise _refusal(_text(done.stderr))

    def run(self, *args: str, stdin: bytes | None = None, timeout_s: float = 600) -> str:
        """Standard output, stripped, of a command that must succeed."""
        done = self.attempt(*args, stdin=stdin, timeout_s=timeout_s)
        if done.returncode != 0:
            raise _failure(self.program, args, done)
        return _text(done.stdout).strip()

    def attempt(
        self, *args: str, stdin: bytes | None = None, timeout_s: float = 600
    ) -> subprocess.CompletedProcess[bytes]:
        """The finished process, whatever its status."""
        words = [self.program, *args]
        try:
            return subprocess.run(
                words,
                input=b"" if stdin is None else stdin,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise LabError(
                f"practice hosts need Docker, and there is no `{self.program}` here",
                remedy="apt-get install docker.io (or docker-ce), then start the daemon",
            ) from error
        except OSError as error:
            raise LabError(
                f"`{self.program}` cannot be started: {error}",
                remedy="is another file of that name in PATH? `command -v docker`",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise LabError(
                f"`{_shown(self.program, args)}` did not finish within {timeout_s:g} s",
                remedy="is the Docker daemon responding? `docker info`",
            ) from error

    def image_exists(self, reference: str) -> bool:
        words = ("image", "inspect", "--format", "{{.Id}}", reference)
        return self.attempt(*words, timeout_s=self.question_timeout_s).returncode == 0


def _refusal(stderr: str) -> LabError:
    lowered = stderr.lower()
    if "permission denied" in lowered:
        return LabError(
            "this user may not use the Docker daemon",
            remedy="run as root, or join the docker group (`sudo usermod -aG docker $USER`) "
            "and log in again",
        )
    if "cannot connect" in lowered or "daemon running" in lowered:
        return LabError(
            "the Docker daemon is not running",
            remedy="`systemctl start docker`; without systemd, run `dockerd` in the background",
        )
    return LabError(f"Docker does not answer: {_tail(stderr)}", remedy="`docker info` shows more")


def _failure(
    program: str, args: Sequence[str], done: subprocess.CompletedProcess[bytes]
) -> LabError:
    output = _tail(_text(done.stderr) or _text(done.stdout))
    return LabError(f"`{_shown(program, args)}` exited with {done.returncode}\n{output}")


def _shown(program: str, args: Sequence[str]) -> str:
    words = [program, *args[:4]]
    return " ".join(words) + (" …" if len(args) > 4 else "")


def _tail(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-ERROR_LINES_SHOWN:])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
