"""Plain ``ssh gpu01`` and ``ssh gpu01-torch``: rigup's fragment of the SSH configuration.

The fragment is ``ssh_config`` in rigup's home directory, one block per host or container between
marker lines. ``~/.ssh/config`` gets a single Include of it as its first line, because the first
value that OpenSSH finds wins and an Include after a Host line would belong to that host.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inventory import Host
from provisioner.errors import UsageError
from provisioner.home import known_hosts_file, rigup_home, write_private
from provisioner.transport.target import parse_jump

HEADER = "# Written by rigup; changes between the markers are lost.\n"
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_VALUE = re.compile(r"[^\x00-\x1f\x7f\"'\\]+")

Options = Mapping[str, str]


def fragment_file() -> Path:
    return rigup_home() / "ssh_config"


def ssh_words() -> list[str]:
    """``ssh`` that finds rigup's own aliases first, whatever ``~/.ssh/config`` says of the same
    names; what rigup does not set (keys, agents, jump hosts) still comes from there."""
    path = rigup_home() / "ssh_config_first"
    includes = (_path(fragment_file()), "~/.ssh/config", "/etc/ssh/ssh_config")
    text = HEADER + "".join(f"Include {name}\n" for name in includes)
    if _read(path) != text:
        write_private(path, text.encode())
    return ["ssh", "-F", str(path)]


def host_options(host: Host) -> dict[str, str]:
    """The options of ``Host <host.name>``: what the inventory says and nothing else, so that the
    user's own configuration fills in the rest. Keys must be pinned; unknown ones are refused."""
    options = {"HostName": _escaped(host.address)} if host.address != host.name else {}
    if host.port is not None:
        options["Port"] = str(host.port)
    if host.user is not None:
        options["User"] = _word(host.user, "user")
    if host.identity_file is not None:
        options |= {"IdentityFile": _path(host.identity_file), "IdentitiesOnly": "yes"}
    if host.via is not None:
        options["ProxyJump"] = _alias(host.via.name)
    elif host.jump is not None:
        parse_jump(host.jump)
        options["ProxyJump"] = _word(host.jump, "jump")
    return {**options, **_strict()}


def container_options(host: Host, alias: str, user: str, port: int) -> dict[str, str]:
    """The options of a container's block: through the host to a port of its loopback."""
    options = {
        "HostName": "127.0.0.1",
        "Port": str(port),
        "User": _word(user, "user"),
        "ProxyJump": _alias(host.name),
        "HostKeyAlias": _alias(alias),
    }
    if host.identity_file is not None:
        options |= {"IdentityFile": _path(host.identity_file), "IdentitiesOnly": "yes"}
    known = {"UserKnownHostsFile": _path(known_hosts_file()), "StrictHostKeyChecking": "yes"}
    return {**options, **known}


def render_block(alias: str, options: Options) -> str:
    """One Host block between its markers. Raises UsageError for a value that ssh would read as
    something else than one word."""
    lines = [_begin(alias), f"Host {_alias(alias)}"]
    lines += [f"  {keyword} {value}" for keyword, value in options.items()]
    return "\n".join([*lines, _end(alias)]) + "\n"


def with_block(text: str, alias: str, block: str) -> str:
    """The fragment's text with ``alias``'s block replaced, added, or (for ``""``) removed."""
    kept = without_block(text, alias)
    return (kept or HEADER) + block


def without_block(text: str, alias: str) -> str:
    begin, end = re.escape(_begin(alias)), re.escape(_end(alias))
    return re.sub(rf"(?ms)^{begin}\n.*?^{end}\n", "", text)


def write_blocks(blocks: Mapping[str, Options]) -> None:
    """Add or replace blocks in the fragment, all of them at once."""
    rendered = {alias: render_block(alias, options) for alias, options in blocks.items()}
    with _edited_fragment() as fragment:
        for alias, block in rendered.items():
            fragment.text = with_block(fragment.text, alias, block)


def remove_block(alias: str, way: Iterable[str] = ()) -> None:
    """Remove a block from the fragment; nothing happens where there is none.

    ``way`` names the hosts that led there, the last one first: of these, the blocks that no other
    block leads through go as well.
    """
    with _edited_fragment() as fragment:
        fragment.text = without_block(fragment.text, alias)
        for name in way:
            if not _leads_through(fragment.text, name):
                fragment.text = without_block(fragment.text, name)


def forget_hosts(names: Iterable[str]) -> None:
    """Remove the blocks of hosts that are gone for good, and of every container on them."""
    with _edited_fragment() as fragment:
        for name in names:
            for alias in re.findall(r"(?m)^# BEGIN rigup (\S+)$", fragment.text):
                if alias == name or alias.startswith(f"{name}-"):
                    fragment.text = without_block(fragment.text, alias)


def has_block(alias: str) -> bool:
    return f"{_begin(alias)}\n" in _read(fragment_file())


def ensure_include(config: Path | None = None) -> bool:
    """Make ``~/.ssh/config`` include the fragment, first of all; whether it had to be changed.

    The rest of the file, its mode and a symbolic link to it stay as they are.
    """
    path = (config or Path("~/.ssh/config").expanduser()).resolve()
    line = f"Include {_path(fragment_file())}"
    with only_writer():
        text = _read(path)
        if _includes_first(text, line):
            return False
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
        write_private(path, f"{line}\n{text}".encode("utf-8", "surrogateescape"), mode=mode)
        path.chmod(mode)
    return True


@contextmanager
def only_writer() -> Iterator[None]:
    """Hold the lock on rigup's SSH files, so that no two threads or commands lose each other's
    lines. Not to be taken twice by one."""
    home = rigup_home()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(home / ".ssh_config.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@dataclass
class _Fragment:
    text: str


@contextmanager
def _edited_fragment() -> Iterator[_Fragment]:
    """The fragment to change, written back atomically when it did change."""
    with only_writer():
        fragment = _Fragment(before := _read(fragment_file()))
        yield fragment
        if fragment.text != before:
            write_private(fragment_file(), fragment.text.encode())


def _leads_through(text: str, name: str) -> bool:
    return re.search(rf"(?m)^  ProxyJump {re.escape(name)}$", text) is not None


def _includes_first(text: str, line: str) -> bool:
    """Whether the line stands before every Host and Match."""
    for present in text.splitlines():
        if present.strip() == line:
            return True
        if re.match(r"\s*(host|match)[\s=]", present, re.IGNORECASE):
            return False
    return False


def _strict() -> dict[str, str]:
    theirs = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
    files = " ".join([_path(known_hosts_file()), *theirs])
    return {"UserKnownHostsFile": files, "StrictHostKeyChecking": "yes"}


def _alias(name: str) -> str:
    if not _ALIAS.fullmatch(name):
        raise UsageError(f"{name!r} cannot be an SSH alias", remedy="use letters, digits and _ . -")
    return name


def _word(value: str, what: str) -> str:
    """A value without white space or anything that ssh_config treats specially."""
    if not _VALUE.fullmatch(value) or re.search(r"[\s%#$]", value) or value.startswith("-"):
        raise UsageError(f"{what} {value!r} cannot be written into an SSH configuration")
    return value


def _escaped(address: str) -> str:
    return _word(address.replace("%", ""), "address") and address.replace("%", "%%")


def _path(path: Path) -> str:
    """A quoted path; percent signs are doubled and dollars refused, as ssh expands both."""
    text = str(path.expanduser().absolute())
    if not _VALUE.fullmatch(text) or "$" in text:
        raise UsageError(f"the path {text!r} cannot be written into an SSH configuration")
    escaped = text.replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[\s#=,]", escaped) else escaped


def _begin(alias: str) -> str:
    return f"# BEGIN rigup {alias}"


def _end(alias: str) -> str:
    return f"# END rigup {alias}"


def _read(path: Path) -> str:
    return path.read_text("utf-8", "surrogateescape") if path.exists() else ""
