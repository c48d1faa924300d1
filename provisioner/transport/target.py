"""Where and how to connect: the inventory's word first, then the SSH configuration's.

``ssh -G`` answers with OpenSSH's own reading of the configuration (Include, Match, tokens), so a
name works here exactly as it does for ``ssh``.
"""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
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
    jump = host.jump or _option(options, "proxyjump")
    return Target(
        host_name=host.name,
        address=address,
        port=host.port or int(_first(options, "port", "22")),
        user=host.user or _first(options, "user", getpass.getuser()),
        identities=_identities(host, options),
        identities_only=host.identity_file is not None
        or _first(options, "identitiesonly", "no") == "yes",
        known_hosts=(known_hosts_file(), *_known_hosts(options)),
        key_name=_option(options, "hostkeyalias") or address,
        jump=jump,
        proxy_command=None if jump else _proxy_command(options),
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


def _identities(host: Host, options: dict[str, list[str]]) -> tuple[Path, ...]:
    if host.identity_file is not None:
        return (host.identity_file,)
    named = options.get("identityfile", list(DEFAULT_IDENTITIES))
    return tuple(path for path in map(_expand, named) if path.is_file())


def _known_hosts(options: dict[str, list[str]]) -> tuple[Path, ...]:
    named = [
        path
        for keyword in ("userknownhostsfile", "globalknownhostsfile")
        for value in options.get(keyword, [])
        for path in value.split()
    ]
    return tuple(_expand(path) for path in named or DEFAULT_KNOWN_HOSTS)


def _proxy_command(options: dict[str, list[str]]) -> str | None:
    return _option(options, "proxycommand")


def _option(options: dict[str, list[str]], keyword: str) -> str | None:
    value = _first(options, keyword, "none")
    return None if value == "none" else value


def _first(options: dict[str, list[str]], keyword: str, default: str) -> str:
    return options.get(keyword, [default])[0]


def _expand(path: str) -> Path:
    return Path(path).expanduser()
