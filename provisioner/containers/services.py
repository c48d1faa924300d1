"""Jupyter and TensorBoard inside a container: on its loopback only, reached through SSH.

Jupyter's token is made in the container and lies there in a 0600 file of the login user; it is in
no argument list and no environment, and rigup reads it over the trusted link.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from provisioner.command import Command, Secret
from provisioner.containers.docker_cli import question
from provisioner.containers.engine import ContainerInfo
from provisioner.errors import CommandFailed, RigupError, UsageError
from provisioner.transport.base import Transport

JUPYTER_PORT, TENSORBOARD_PORT = 8888, 6006
START_TIMEOUT_S = 60.0
POLL_S = 0.5
TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,256}")
"""What needs no quoting in an address (RFC 3986, section 2.3)."""

PREPARE = r"""
import json, os, secrets, sys
folder = os.path.expanduser("~/.rigup-services")
os.makedirs(folder, mode=0o700, exist_ok=True)
path = os.path.join(folder, "jupyter_config.json")
if not os.path.exists(path):
    settings = {
        "ServerApp": {"ip": "127.0.0.1", "port": int(sys.argv[1]), "port_retries": 0,
                      "open_browser": False, "allow_remote_access": False},
        "IdentityProvider": {"token": secrets.token_urlsafe(32)},
    }
    descriptor = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(settings, file)
    os.replace(path + ".tmp", path)
print(open(path).read())
"""

SERVE = r"""
mkdir -p -m 700 ~/.rigup-services
cd
base=~/.rigup-services/$1
shift
cut -d' ' -f1,22 /proc/$$/stat >"$base.pid"
printf '%s\n' "$@" >"$base.words"
exec "$@" >"$base.log" 2>&1 </dev/null
"""

SERVES = r"""
base=~/.rigup-services/$1
shift
read -r pid started <"$base.pid" || exit 1
[ "$(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)" = "$started" ] || exit 1
printf '%s\n' "$@" | cmp -s - "$base.words"
"""
"""Does the service run that was started with these words? Its number may be another program's by
now, so the moment of its start counts too (proc(5), the fields after the name)."""

IS_OURS = r"""
import json, os, sys, urllib.request
with open(os.path.expanduser("~/.rigup-services/jupyter_config.json")) as file:
    token = json.load(file)["IdentityProvider"]["token"]
address = "http://127.0.0.1:" + sys.argv[1] + "/api/status"
question = urllib.request.Request(address, headers={"Authorization": "token " + token})
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
direct.open(question, timeout=10).close()
"""

STOP = r"""
base=~/.rigup-services/$1
read -r pid started <"$base.pid" || exit 1
[ "$(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)" = "$started" ] || exit 1
rm -f "$base.pid" "$base.words"
kill "$pid" || exit 1
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    kill -0 "$pid" 2>/dev/null || exit 0
    sleep 0.25
done
kill -9 "$pid"
"""

ANSWERS = r"""
import socket, sys
socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2).close()
"""


@dataclass(frozen=True)
class Service:
    """A service that answers on ``port`` of the container's loopback. ``token`` is None where the
    service has none."""

    name: str
    port: int
    token: Secret | None = None

    def url(self, local_port: int) -> str:
        """What to open in a browser on this machine; it holds the token, so show it to the user
        and nobody else."""
        if self.token is None:
            return f"http://127.0.0.1:{local_port}/"
        return f"http://127.0.0.1:{local_port}/lab?token={self.token.reveal()}"


def start_jupyter(
    transport: Transport, container: ContainerInfo, *, sleep: Callable[[float], None] = time.sleep
) -> Service:
    """JupyterLab in the user's home directory; the one that runs already if there is one.

    Raises RigupError when it does not start.
    """
    prepared = _exec(transport, container, "python3", "-c", PREPARE, str(JUPYTER_PORT))
    token = _token(prepared, transport.host_name)
    config = f"{_folder(container)}/jupyter_config.json"
    words = ("jupyter", "lab", f"--config={config}")
    is_ours = _as_user(container, "python3", "-c", IS_OURS, str(JUPYTER_PORT))
    _serve(transport, container, "jupyter", JUPYTER_PORT, words, is_ours, sleep)
    return Service("jupyter", JUPYTER_PORT, token)


def start_tensorboard(
    transport: Transport,
    container: ContainerInfo,
    log_dir: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Service:
    """TensorBoard over ``log_dir`` (an absolute path in the container). Raises RigupError."""
    if not log_dir.startswith("/"):
        raise UsageError(f"{log_dir!r} is not an absolute path in the container")
    words = ("tensorboard", "--logdir", log_dir, "--host", "127.0.0.1")
    full = (*words, "--port", str(TENSORBOARD_PORT))
    is_ours = _as_user(container, "sh", "-c", SERVES, "sh", "tensorboard", *full)
    _serve(transport, container, "tensorboard", TENSORBOARD_PORT, full, is_ours, sleep)
    return Service("tensorboard", TENSORBOARD_PORT)


def _token(prepared: str, host_name: str) -> Secret:
    """The host says it, and the terminal shows it as part of an address."""
    try:
        token = json.loads(prepared)["IdentityProvider"]["token"]
        if TOKEN.fullmatch(token):
            return Secret(token)
    except (ValueError, RecursionError, LookupError, TypeError):
        pass
    raise RigupError(
        "the container gives no usable token for Jupyter",
        host=host_name,
        remedy="remove ~/.rigup-services/jupyter_config.json in the container, then try again",
    )


def _serve(
    transport: Transport,
    container: ContainerInfo,
    name: str,
    port: int,
    words: tuple[str, ...],
    is_ours: Command,
    sleep: Callable[[float], None],
) -> None:
    """``is_ours`` succeeds where what answers already is what is wanted."""
    if _answers(transport, container, port):
        if transport.run(is_ours).ok:
            return
        _stop(transport, container, name)
    start = ("docker", "exec", "--detach", "--user", container.user, container.docker_name)
    _checked(transport, Command.of(*start, "sh", "-c", SERVE, "sh", name, *words))
    for _ in range(int(START_TIMEOUT_S / POLL_S)):
        if _answers(transport, container, port):
            return
        sleep(POLL_S)
    log = f"{_folder(container)}/{name}.log"
    tail = _exec(transport, container, "tail", "-n", "12", log)
    raise RigupError(
        f"{name} in the container {container.name} does not answer\n{tail}",
        host=transport.host_name,
        remedy=f"ssh into the container and read {log}",
    )


def _stop(transport: Transport, container: ContainerInfo, name: str) -> None:
    """End what was started with other words. Raises RigupError where that is not known."""
    stopped = transport.run(_as_user(container, "sh", "-c", STOP, "sh", name))
    if not stopped.ok:
        raise RigupError(
            f"another {name} answers in the container {container.name}, which rigup did not start",
            host=transport.host_name,
            remedy=f"end it there (container.ssh), then try again: pkill {name}",
        )


def _answers(transport: Transport, container: ContainerInfo, port: int) -> bool:
    return transport.run(_as_user(container, "python3", "-c", ANSWERS, str(port))).ok


def _exec(transport: Transport, container: ContainerInfo, *words: str) -> str:
    return _checked(transport, _as_user(container, *words))


def _as_user(container: ContainerInfo, *words: str) -> Command:
    """Never as root: the login user may replace what is found by the container's PATH."""
    start = ("docker", "exec", "--user", container.user, container.docker_name)
    return question(*start, *words)


def _checked(transport: Transport, command: Command) -> str:
    result = transport.run(command)
    if not result.ok:
        raise CommandFailed(result, host=transport.host_name, remedy="container.up starts it")
    return result.text


def _folder(container: ContainerInfo) -> str:
    home = "/root" if container.user == "root" else f"/home/{container.user}"
    return f"{home}/.rigup-services"
