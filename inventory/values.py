"""Parsers of single values: a node in, a checked value out, InventoryError otherwise."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from inventory.nodes import Node, refuse_repeated

T = TypeVar("T")
Parser = Callable[[Node], T]
Section = dict[str, Any]

NO_JUMP = "none"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
"""Hosts and groups: also used in file names, SSH aliases and container names."""

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253})")
_IPV6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*(?:%[A-Za-z0-9_.-]+)?")
_JUMP = re.compile(r"(?:(?P<user>[^@]+)@)?(?P<host>\[[^]]+\]|[^:\[\]]+)(?::(?P<port>\d{1,5}))?")
_REMOTE_PATH = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@+-]*")
_PROGRAM = re.compile(r"(?:/[A-Za-z0-9_./+-]+|[A-Za-z0-9_][A-Za-z0-9_.+-]*)")
_IMAGE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?(?:/[a-z0-9._-]+)*")
_MOUNT = re.compile(
    r"(?:/[^:,\x00-\x1f]*|[A-Za-z0-9][A-Za-z0-9_.-]+):/[^:,\x00-\x1f]*(?::(?:ro|rw))?"
)
_SIZE = re.compile(r"[1-9][0-9]*[bkmg]?", re.IGNORECASE)
_BRANCH = re.compile(r"[0-9]{3}")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_S = 7 * 24 * 3600.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_URL_CHARACTERS = re.compile(r"[A-Za-z0-9:/?#\[\]@!$&()*+,;=._~%-]+")


def scalar(node: Node, what: str, *, numbers: bool = False) -> str:
    """Text as written; with ``numbers``, numbers too. Never empty, never control characters."""
    kinds = {"text", "a whole number", "a number"} if numbers else {"text"}
    if node.kind == "nothing":
        raise node.expected(what, remedy="give it a value, or remove the line")
    if node.kind not in kinds:
        raise node.expected(what)
    if not node.raw.strip() or _CONTROL.search(node.raw):
        raise node.expected(what)
    return node.raw


def _matching(pattern: re.Pattern[str], what: str, *, numbers: bool = False) -> Parser[str]:
    def parse(node: Node) -> str:
        text = scalar(node, what, numbers=numbers)
        if not pattern.fullmatch(text):
            raise node.expected(what)
        return text

    return parse


user = _matching(_USER, "a login name (letters, digits and _ . @ + -, not beginning with '-')")
program = _matching(_PROGRAM, "a program name or an absolute path, such as /opt/venv/bin/python")
image = _matching(_IMAGE, "a container image, such as registry.example/team/image:tag")
registry = _matching(_REGISTRY, "a registry without scheme, such as registry.example:5000/proxy")
mount = _matching(_MOUNT, "a mount as /on/host:/in/container or /on/host:/in/container:ro")
size = _matching(_SIZE, "a size such as 512m or 16g", numbers=True)
branch = _matching(_BRANCH, "a driver branch of three digits, such as 580", numbers=True)


def name(node: Node, what: str) -> str:
    """A host's or group's name."""
    fits = node.kind not in ("a mapping", "a list", "nothing") and NAME.fullmatch(node.raw)
    if not fits:
        raise node.error(
            f"expected a {what} name, got {node.shown()}",
            remedy="use up to 63 letters, digits and _ . -, beginning with a letter or digit",
        )
    return node.raw


def address(node: Node) -> str:
    what = "a host name or an IP address"
    text = scalar(node, what, numbers=True)
    if "@" in text:
        raise node.expected(what, remedy="put the login name into `user`")
    if text.startswith("["):
        raise node.expected(what, remedy="write an IPv6 address without brackets")
    if text.count(":") == 1:
        raise node.expected(what, remedy="put the port into `port`")
    if not is_address(text):
        raise node.expected(what)
    return text


def is_address(text: str) -> bool:
    return bool(_HOST_NAME.fullmatch(text) or _IPV6.fullmatch(text))


def jump(node: Node) -> str:
    """As ssh's ProxyJump: ``[user@]host[:port]``, several separated by commas; or ``none`` for
    a host that is reached directly whatever a group or the SSH configuration says."""
    text = scalar(node, "[user@]host[:port], several separated by commas")
    if text.lower() == NO_JUMP:
        return NO_JUMP
    if not all(_is_hop(hop) for hop in text.split(",")):
        raise node.expected("[user@]host[:port], several separated by commas")
    return text


def _is_hop(text: str) -> bool:
    match = _JUMP.fullmatch(text)
    if not match:
        return False
    login, host, number = match.group("user", "host", "port")
    login_fits = login is None or bool(_USER.fullmatch(login))
    port_fits = number is None or 1 <= int(number) <= 65535
    return login_fits and port_fits and is_address(host.strip("[]"))


def port(node: Node) -> int:
    what = "a whole number from 1 to 65535"
    if node.kind == "text" and node.raw.isdecimal():
        raise node.expected(what, remedy="remove the quotes")
    if node.kind != "a whole number" or not re.fullmatch(r"[1-9][0-9]{0,4}", node.raw):
        raise node.expected(what)
    if int(node.raw) > 65535:
        raise node.expected(what)
    return int(node.raw)


def seconds(node: Node) -> float:
    """A duration: a number of seconds, or with a unit, as in ``30s``, ``10m``, ``2h``."""
    what = "seconds or a duration such as 30s or 10m, at most 7 days"
    match = _DURATION.fullmatch(scalar(node, what, numbers=True))
    value = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0.0 < value <= _LONGEST_S:
        raise node.expected(what)
    return value


def local_path(node: Node) -> Path:
    """A path on this machine: ``~`` is expanded, relative is from the inventory's directory."""
    text = scalar(node, "a path on this machine")
    try:
        expanded = Path(text).expanduser()
    except RuntimeError:
        raise node.expected("a path on this machine", remedy="no such home directory") from None
    return node.path.parent / expanded


def state_dir(node: Node) -> str:
    """A path on the host, relative to the login user's home unless absolute."""
    what = "a directory on the host, such as .rigup or /data/rigup"
    text = scalar(node, what).removeprefix("~/")
    if not _REMOTE_PATH.fullmatch(text) or ".." in text.split("/"):
        raise node.expected(what)
    return text


def remote_directory(node: Node) -> str:
    """An absolute directory on the host, not the root itself."""
    what = "an absolute directory on the host, such as /data/workspace"
    text = scalar(node, what)
    parts = text.split("/")
    if not text.startswith("/") or not _REMOTE_PATH.fullmatch(text) or ".." in parts:
        raise node.expected(what)
    if not any(part not in ("", ".") for part in parts):
        raise node.expected(what)
    return text.rstrip("/")


def fingerprint(node: Node) -> str:
    """A signing key's fingerprint as 40 upper-case hex digits; spaces in it are ignored."""
    what = "a key fingerprint of 40 hex digits"
    digits = "".join(scalar(node, what, numbers=True).split()).upper()
    if not re.fullmatch(r"[0-9A-F]{40}", digits):
        raise node.expected(what, remedy="gpg --show-keys --with-fingerprint FILE prints it")
    return digits


def url(*schemes: str) -> Parser[str]:
    """A URL with one of these schemes and without a password: URLs end up in argument lists."""
    what = "a URL beginning with " + " or ".join(f"{scheme}://" for scheme in schemes)

    def parse(node: Node) -> str:
        text = scalar(node, what)
        if _has_password(text):
            raise node.error(
                "a URL with a password in it would show in process lists and logs",
                remedy="admit the hosts there by their address; or keep the login elsewhere: in "
                "netrc on the hosts for a mirror, in a small local proxy for a proxy",
            )
        if not _is_url(text, schemes):
            raise node.expected(what)
        return text

    return parse


def _has_password(text: str) -> bool:
    return "@" in text.partition("://")[2].partition("/")[0]


def _is_url(text: str, schemes: Collection[str]) -> bool:
    if not _URL_CHARACTERS.fullmatch(text):
        return False
    try:
        parts = urlsplit(text)
        number = parts.port
    except ValueError:
        return False
    placed = bool(parts.path) if parts.scheme == "file" else is_address(parts.hostname or "")
    return parts.scheme in schemes and placed and number != 0


def choice(*known: str) -> Parser[str]:
    what = " or ".join(known)

    def parse(node: Node) -> str:
        text = scalar(node, what)
        if text not in known:
            raise node.expected(what, remedy=did_you_mean(text, known))
        return text

    return parse


def labels(node: Node) -> Section:
    return {name(key, "label"): _label(value) for key, value in node.entries()}


def _label(node: Node) -> str:
    if node.kind == "true or false":
        return node.raw
    return scalar(node, "a short text", numbers=True)


def list_of(parse: Parser[T]) -> Parser[tuple[T, ...]]:
    def parse_list(node: Node) -> tuple[T, ...]:
        return tuple(parse(element) for element in node.elements())

    return parse_list


def names(node: Node, what: str) -> list[Node]:
    """A list of names without repeats, as nodes so that each keeps its line."""
    elements = node.elements()
    for element in elements:
        name(element, what)
    refuse_repeated(elements)
    return elements


def section(
    known: Mapping[str, Parser[Any]], hints: Mapping[str, str] | None = None
) -> Parser[Section]:
    """A mapping whose keys are all in ``known``; ``hints`` answers keys from other tools."""

    def parse(node: Node) -> Section:
        found: Section = {}
        for key, value in node.entries():
            if key.raw not in known:
                raise _unknown_key(key, known, hints or {})
            found[key.raw] = known[key.raw](value)
        return found

    return parse


def did_you_mean(word: str, known: Collection[str]) -> str | None:
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else None


def _unknown_key(key: Node, known: Collection[str], hints: Mapping[str, str]) -> Exception:
    hint = hints.get(key.raw) or did_you_mean(key.raw, known)
    allowed = f"known keys here: {', '.join(sorted(known))}"
    return key.error(f"unknown key {key.raw!r}", remedy=f"{hint} ({allowed})" if hint else allowed)
