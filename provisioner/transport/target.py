"""Where and how to connect: the inventory's word first, then the SSH configuration's.

``ssh -G`` answers with OpenSSH's own reading of the configuration (Include, Match, tokens), so a
name works here exactly as it does for ``ssh``.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from inventory import Host
from provisioner.errors import ConnectError, UsageError
from provisioner.home import known_hosts_file

SSH_G_TIMEOUT_S = 10
DEFAULT_KNOWN_HOSTS = (
    "~/.ssh/known_hosts",
    "~/.ssh/known_hosts2",
    "/etc/ssh/ssh_known_hosts",
    "/etc/ssh/ssh_known_hosts2",
)
DEFAULT_IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")

JUMP = re.compile(
    r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<v6>[^\[\]@]+)\]|(?P<name>[^\[\]:@/]+))(?::(?P<port>\d+))?"
)

TOKEN = re.compile("%(.)")
NO_JUMP = "none"
"""As in ProxyJump: reached directly, whatever the SSH configuration says."""

ReadOptions = Callable[["Host"], dict[str, list[str]]]


@dataclass(frozen=True)
class Target:
    """A resolved SSH destination. ``key_name`` is what its host key is filed under."""

    host_name: str
    address: str
    port: int
    user: str
    identities: tuple[Path, ...]
    identities_only: bool
    known_hosts: tuple[Path, ...]
    key_name: str
    jump: str | None
    proxy_command: str | None
    connect_timeout_s: float
    command_timeout_s: float

    @property
    def known_hosts_name(self) -> str:
        """The name in a known_hosts line: ``address``, or ``[address]:port`` off port 22."""
        return self.key_name if self.key_port == 22 else f"[{self.key_name}]:{self.key_port}"

    @property
    def key_port(self) -> int:
        """HostKeyAlias entries carry no port (ssh_config(5))."""
        return self.port if self.key_name == self.address else 22


def resolve(host: Host, *, read_options: ReadOptions | None = None) -> Target:
    """Combine the inventory's settings with the SSH configuration's.

    Raises UsageError when the SSH configuration cannot be read.
    """
    options = (read_options or ssh_options)(host)
    address = _first(options, "hostname", host.address)
    jump = None if host.jump == NO_JUMP else host.jump or _option(options, "proxyjump")
    port = int(host.port or _first(options, "port", "22"))
    user = host.user or _first(options, "user", getpass.getuser())
    tokens = _tokens(host, address, port, user)
    is_direct = bool(host.jump or jump)
    return Target(
        host_name=host.name,
        address=address,
        port=port,
        user=user,
        identities=_identities(host, options, tokens),
        identities_only=host.identity_file is not None
        or _first(options, "identitiesonly", "no") == "yes",
        known_hosts=(known_hosts_file(), *_known_hosts(options, tokens)),
        key_name=_option(options, "hostkeyalias") or address,
        jump=jump,
        proxy_command=None if is_direct else _proxy_command(options, tokens),
        connect_timeout_s=host.connect_timeout_s,
        command_timeout_s=host.command_timeout_s,
    )


def ssh_options(host: Host) -> dict[str, list[str]]:
    """What ``ssh -G`` says for the host; empty where no ``ssh`` program is installed."""
    program = shutil.which("ssh")
    if program is None:
        return {}
    words = [program, "-G"]
    if host.user:
        words += ["-l", host.user]
    if host.port:
        words += ["-p", str(host.port)]
    try:
        done = subprocess.run(
            [*words, "--", host.address],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SSH_G_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _unreadable(host, f"no answer within {SSH_G_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise _unreadable(host, done.stderr.strip())
    return parse_options(done.stdout)


def parse_options(text: str) -> dict[str, list[str]]:
    """``ssh -G`` output as keyword -> values, in order."""
    options: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        if value:
            options.setdefault(keyword.lower(), []).append(value)
    return options


def parse_jump(jump: str) -> tuple[str | None, str, int | None]:
    """``[user@]host[:port]`` or ``ssh://[user@]host[:port]`` as (user, host, port), the forms of
    ProxyJump in ssh_config(5); an IPv6 address stands in brackets."""
    found = JUMP.fullmatch(jump)
    if found is None:
        raise ConnectError(
            f"cannot read the jump host {jump!r}", remedy="write it as [user@]host[:port]"
        )
    port = found["port"]
    return found["user"], found["v6"] or found["name"], int(port) if port else None


def _unreadable(host: Host, reason: str) -> UsageError:
    return UsageError(
        f"ssh cannot read its configuration: {reason}",
        host=host.name,
        remedy=f"ssh -G {shlex.quote(host.address)}",
    )


def _tokens(host: Host, address: str, port: int, user: str) -> dict[str, str]:
    """The tokens of ssh_config(5) that ``ssh -G`` leaves as they are."""
    here = socket.gethostname()
    return {
        "%": "%",
        "d": str(Path.home()),
        "h": address,
        "i": str(os.getuid()),
        "L": here.partition(".")[0],
        "l": here,
        "n": host.address,
        "p": str(port),
        "r": user,
        "u": getpass.getuser(),
    }


def _with_tokens(text: str, tokens: Mapping[str, str]) -> str:
    """Unknown tokens stay as they are."""
    return TOKEN.sub(lambda found: tokens.get(found[1], found[0]), text)


def _identities(
    host: Host, options: dict[str, list[str]], tokens: Mapping[str, str]
) -> tuple[Path, ...]:
    if host.identity_file is not None:
        return (host.identity_file,)
    named = options.get("identityfile", list(DEFAULT_IDENTITIES))
    paths = (_expand(_with_tokens(path, tokens)) for path in named)
    return tuple(path for path in paths if _has_key(path))


def _has_key(path: Path) -> bool:
    """The public half will do: the agent may hold the other."""
    return path.is_file() or path.with_name(f"{path.name}.pub").is_file()


def _known_hosts(options: dict[str, list[str]], tokens: Mapping[str, str]) -> tuple[Path, ...]:
    named = [
        path
        for keyword in ("userknownhostsfile", "globalknownhostsfile")
        for value in options.get(keyword, [])
        for path in _paths(_with_tokens(value, tokens))
    ]
    return tuple(named or map(_expand, DEFAULT_KNOWN_HOSTS))


def _paths(value: str) -> Iterator[Path]:
    """Paths separated by spaces, as ``ssh -G`` prints them: without the quotes of those that
    contain some. The shortest run of words that is a file is one path."""
    words = value.split(" ")
    while words:
        runs = (_expand(" ".join(words[:end])) for end in range(1, len(words) + 1))
        taken = next((end for end, path in enumerate(runs, 1) if path.is_file()), 1)
        yield _expand(" ".join(words[:taken]))
        words = words[taken:]


def _proxy_command(options: dict[str, list[str]], tokens: Mapping[str, str]) -> str | None:
    command = _option(options, "proxycommand")
    return None if command is None else _with_tokens(command, tokens)


def _option(options: dict[str, list[str]], keyword: str) -> str | None:
    value = _first(options, keyword, "none")
    return None if value == "none" else value


def _first(options: dict[str, list[str]], keyword: str, default: str) -> str:
    return options.get(keyword, [default])[0]


def _expand(path: str) -> Path:
    return Path(path).expanduser()
