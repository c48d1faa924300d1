"""What a fact is, and the one script that reads all of them in one round trip.

Each fact is a shell snippet and a pure parser. The script prints every snippet's output between
two lines that carry a nonce, with the exit code: "not there" (the parser says so) and "could not
be read" (:class:`Unreadable`) stay different things.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from provisioner.command import Command
from provisioner.errors import RigupError
from provisioner.transport.base import Transport

T = TypeVar("T")

SECTION_TIMEOUT_S = 20
GATHER_TIMEOUT_S = 120.0
SECTION_BYTES = 262_144

PRELUDE = rf"""
export LC_ALL=C PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH"
as_root() {{ if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }}
LIMIT_S={SECTION_TIMEOUT_S}
limited() {{
  if command -v timeout >/dev/null; then timeout $LIMIT_S "$@"; else "$@"; fi
}}
"""


@dataclass(frozen=True)
class Output:
    """What one snippet printed (stdout and stderr apart from each other is not needed)."""

    text: str
    exit_code: int


@dataclass(frozen=True)
class Unreadable:
    """A fact that could not be read, and why. Never the same as "it is not there"."""

    reason: str
    remedy: str | None = None


UNDERSTANDS_NOT = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError, StopIteration),
)
"""What a parser may raise over an answer of another shape than it takes for granted."""


class NeedsRoot(Exception):
    """Raised by a parser: the host would answer this to root only."""


class FactUnreadable(RigupError):
    """A step needed a fact that could not be read."""


@dataclass(frozen=True)
class Fact(Generic[T]):
    """One subject. ``parse`` may raise ValueError: the fact is then unreadable, not absent. So it
    is where an answer has another shape than the parser takes for granted.

    ``slow``: the script asks a driver, a daemon or a large program, so it runs beside the others.
    """

    name: str
    script: str
    parse: Callable[[Output], T]
    slow: bool = False


class Facts:
    """All facts of one host at one moment. ``facts[fact]`` is typed by the fact."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, fact: Fact[T]) -> T:
        value = self._values.get(fact.name, Unreadable("it was not asked for"))
        if isinstance(value, Unreadable):
            message = f"cannot tell the {fact.name} facts: {value.reason}"
            raise FactUnreadable(message, remedy=value.remedy)
        found: T = value
        return found

    def items(self) -> list[tuple[str, Any]]:
        return list(self._values.items())


def gather(
    transport: Transport,
    facts: Sequence[Fact[Any]],
    *,
    state_dir: str = ".rigup",
    directories: Sequence[str] = (),
    sudo: bool = False,
) -> Facts:
    """Read ``facts`` in one round trip. Snippets see the host's ``state_dir`` as $STATE_DIR, the
    ``directories`` to look at as lines of $DIRECTORIES, and this machine's time, in seconds since
    the epoch, as $CLIENT_TIME.

    Raises TransportError when the host cannot be asked.
    """
    nonce = secrets.token_hex(8)
    told = f"STATE_DIR={shlex.quote(state_dir)}\nCLIENT_TIME={int(time.time())}\n"
    told += f"DIRECTORIES={shlex.quote(chr(10).join(directories))}\n"
    script = told + compose(facts, nonce)
    result = transport.run(
        Command.of("sh", "-s", sudo=sudo, stdin=script.encode(), patience_s=GATHER_TIMEOUT_S)
    )
    return Facts(parse(result.text, facts, nonce))


def compose(facts: Sequence[Fact[Any]], nonce: str) -> str:
    """The script: every snippet in a subshell, its output bounded, between two marked lines.

    Slow snippets run all at once, beside the quick ones, which run one after the other. Each slow
    one's output waits in a pipe until those before it have printed, so no two get mixed up.
    """
    body = "".join(f"{_section(fact, nonce)}\n" for fact in facts if not fact.slow)
    for fact in facts:
        if fact.slow:
            body = f"{_section(fact, nonce)} | {{\n{body}cat\n}}\n"
    return f"{PRELUDE}{body}printf '\\n{nonce} end\\n'\n"


def parse(text: str, facts: Sequence[Fact[Any]], nonce: str) -> dict[str, Any]:
    """Section by section; a broken one makes its fact Unreadable and harms no other."""
    outputs = dict(_sections(text, nonce))
    return {fact.name: _parse_one(fact, outputs.get(fact.name)) for fact in facts}


def _section(fact: Fact[Any], nonce: str) -> str:
    return (
        f"{{ printf '\\n{nonce} begin {fact.name}\\n'\n"
        f"(\n{fact.script.strip()}\n) </dev/null 2>&1; printf '\\n{nonce} exit %s\\n' \"$?\"; }}"
        f" | head -c {SECTION_BYTES}"
    )


def _sections(text: str, nonce: str) -> list[tuple[str, Output]]:
    found = []
    for part in text.split(f"\n{nonce} begin ")[1:]:
        name, _, body = part.partition("\n")
        body, marker, tail = body.rpartition(f"\n{nonce} exit ")
        code = tail.split("\n", 1)[0].strip()
        if marker and code.isdigit():
            found.append((name.strip(), Output(body, int(code))))
    return found


def _parse_one(fact: Fact[Any], output: Output | None) -> Any:
    if output is None:
        return Unreadable("the host did not answer this part, or answered far too much")
    try:
        return fact.parse(output)
    except NeedsRoot as error:
        return Unreadable(str(error), "give the sudo password: --ask-sudo-password")
    except UNDERSTANDS_NOT as error:
        return Unreadable(f"{error} in {output.text.strip()[:200]!r}")


def key_values(text: str, separator: str = "=") -> dict[str, str]:
    """``KEY=value`` lines as a dictionary; values unquoted as in os-release(5)."""
    pairs = (line.partition(separator) for line in text.splitlines() if separator in line)
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
