"""Runs on a host: can its Docker pull an image, and how large is it? Prints one JSON object.

Python 3.8, standard library only; sent as ``python3 -c``. Docker's engine is asked, which is what
pulls: it has the host's proxy, authorities and registries. Its client then tells the layers' sizes,
and knows the user's passwords for registries. A proxy for the client comes on standard input.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import socket
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache

TIMEOUT_S = 20.0
CONTEXT_TIMEOUT_S = 5.0
"""For what the client reads in its own files."""
MAX_ANSWER = 1 << 20
SOCKET = "/var/run/docker.sock"
NOT_ASKED = 0
"""Instead of an HTTP status: there is no engine to ask, or it does not know the question."""
NO_ANSWER = 504
ASK_THE_CLIENT = (NOT_ASKED, 200, 401, 403, 429)
"""With another status the registry cannot be reached, or has no such image."""


class Engine(http.client.HTTPConnection):
    """The engine's API on its Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@lru_cache(maxsize=1)
def engine_address() -> str:
    """Where Docker's client finds the engine: `docker context` may name another, as rootless Docker
    does."""
    words = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    given = os.environ.get("DOCKER_HOST", "")
    if not given:
        with suppress(OSError, subprocess.SubprocessError):
            told = subprocess.check_output(
                words,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=CONTEXT_TIMEOUT_S,
            )
            given = told.decode("utf-8", "replace").strip()
    return given or "unix://" + SOCKET


def ask_engine(path: str) -> tuple[int, str]:
    """HTTP status and body of a GET, of a refusal its words."""
    address = engine_address()
    if not address.startswith("unix://"):
        return NOT_ASKED, "Docker is not on this host"
    engine = Engine(address[len("unix://") :])
    try:
        engine.request("GET", path)
        answer = engine.getresponse()
        body = answer.read(MAX_ANSWER).decode("utf-8", "replace")
    except socket.timeout:  # noqa: UP041 (another class before Python 3.10)
        return NO_ANSWER, f"no answer within {TIMEOUT_S:g} s"
    except (OSError, http.client.HTTPException) as error:
        return NOT_ASKED, str(error)
    finally:
        engine.close()
    said = body if answer.status == 200 else words_of(body)
    return (NOT_ASKED if "page not found" in said else answer.status), said


def is_insecure(reference: str) -> bool:
    """Whether the engine was told to use this registry without TLS; the client knows nothing of
    that."""
    registry = reference.partition("/")[0]
    if registry.startswith(("127.", "localhost:")):
        return True
    status, body = ask_engine("/info")
    try:
        known = json.loads(body)["RegistryConfig"]["IndexConfigs"]
        return status == 200 and known[registry]["Secure"] is False
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def words_of(body: str) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body


def ask_client(reference: str, options: list[str], environment: dict[str, str]) -> tuple[str, str]:
    """The manifest as the client shows it, or "" and its words."""
    said = ""
    for form in (["--verbose"], []):  # older clients fail to show some lists in full
        words = ["docker", "manifest", "inspect", *options, *form, reference]
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return "", said or f"no answer within {TIMEOUT_S:g} s"
        except OSError as error:
            return "", str(error)
        if done.returncode == 0:
            return done.stdout[:MAX_ANSWER].decode("utf-8", "replace"), ""
        said = said or done.stderr[:4096].decode("utf-8", "replace").strip()
    return "", said


def main(reference: str) -> None:
    proxy = sys.stdin.readline().strip()
    environment = {**os.environ, "DOCKER_CLI_EXPERIMENTAL": "enabled"}
    if proxy:
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        environment.update(dict.fromkeys(names, proxy))
    # `GET /distribution/{name}/json` in Docker's API
    status, engine_said = ask_engine(f"/distribution/{reference}/json")
    manifest = client_said = ""
    if status in ASK_THE_CLIENT:
        options = ["--insecure"] if is_insecure(reference) else []
        manifest, client_said = ask_client(reference, options, environment)
    answer = {
        "status": status,
        "engine_said": "" if status == 200 else engine_said[:4096],
        "manifest": manifest,
        "client_said": client_said,
        "machine": platform.machine(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
