"""Becoming root without a password ever meeting an argument, a log or the command's own input.

The command is started behind a prompt and a "passed" marker, both made from a nonce. The password
is written only when the prompt appears, the command's standard input only after the marker: a
password can never end up as input of the command, nor input as a password.

Neither stands in the command line as it is displayed, because a login shell may echo that line to
standard error (``bash -x``, ``set -x`` in ``.bashrc``, a syntax error in fish): the prompt's ``%``
is doubled there, which only sudo undoes (sudo(8), ``-p``), and the marker is put together by
``printf``.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from provisioner.command import Command, Secret

MOST_HELD = 65536
"""Bytes that a login's messages and sudo's own may have before the command starts."""

REFUSALS = {
    "you must have a tty": "sudo on this host insists on a terminal (requiretty)",
    "is not in the sudoers file": "the login user may not use sudo",
    "may not run sudo": "the login user may not use sudo",
    "is not allowed to execute": "the login user may not run this with sudo",
    "sudo: not found": "sudo is not installed and the login user is not root",
    "sudo: command not found": "sudo is not installed and the login user is not root",
}

BECOME_ROOT = """\
prompt=$1; shift; [ "$(id -u)" -eq 0 ] && exec "$@"; exec sudo -S -p "$prompt" -- "$@"\
"""
BEGIN = """printf '[rigup %s %s]\\n' "$1" root >&2; shift; exec "$@\""""


@dataclass
class SudoDialogue:
    """Sans-I/O conversation with sudo over one command's standard error.

    Feed every stderr chunk to :meth:`receive`; it returns the chunk without rigup's own markers
    and calls ``send`` with what must be written. ``problem`` is set when sudo refused.
    """

    password: Secret | None
    send: Callable[[bytes], None]
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    passed: bool = False
    problem: str | None = None
    needs_password: bool = False
    _held: bytes = b""
    _asked: bool = False

    @property
    def prompt(self) -> str:
        """What sudo displays."""
        return f"[rigup {self.nonce} %]"

    @property
    def prompt_argument(self) -> str:
        """What sudo is given."""
        return self.prompt.replace("%", "%%")

    @property
    def marker(self) -> str:
        return f"[rigup {self.nonce} root]\n"

    def wrap(self, command: Command) -> str:
        """The line to execute: as root directly, or through sudo where we are not root."""
        inner = ("sh", "-c", BEGIN, "sh", self.nonce, *command.words)
        return shlex.join(("sh", "-c", BECOME_ROOT, "sh", self.prompt_argument, *inner))

    def receive(self, chunk: bytes) -> bytes:
        if self.passed:
            return chunk
        self._held += chunk
        self._find_marker()
        if self.passed:
            rest, self._held = self._held, b""
            return rest
        if len(self._held) > MOST_HELD:
            self.problem = f"more than {MOST_HELD >> 10} KiB came before sudo let the command start"
            return b""
        self._answer_prompt()
        return b""

    def finish(self) -> bytes:
        """The end of stderr. Sets ``problem`` if sudo never let the command start."""
        rest, self._held = self._held, b""
        if not self.passed and self.problem is None:
            text = rest.decode("utf-8", "replace")
            self.problem = next(
                (reason for words, reason in REFUSALS.items() if words in text),
                f"sudo refused: {text.strip() or 'no reason given'}",
            )
        return rest

    def _find_marker(self) -> None:
        before, found, after = self._held.partition(self.marker.encode())
        if found:
            self.passed = True
            self._held = before.replace(self.prompt.encode(), b"") + after

    def _answer_prompt(self) -> None:
        prompt = self.prompt.encode()
        if prompt not in self._held:
            self._refuse_unknown_prompt()
            return
        self._held = self._held.replace(prompt, b"", 1)
        if self._asked:
            self.problem = "the sudo password is wrong"
        elif self.password is None:
            self.needs_password = True
            self.problem = "sudo asks for a password and none was given"
        else:
            self._asked = True
            self.send(self.password.reveal().encode() + b"\n")

    def _refuse_unknown_prompt(self) -> None:
        """A sudo that displays its argument as it stands, at the beginning of a line, and waits: it
        gets no password, for an echo of the command line shows the argument too (in its middle,
        where a packet may end). sudo-rs puts a frame around a prompt."""
        argument = re.escape(self.prompt_argument.encode())
        displayed = rb"(?m:^)(\[sudo: )?" + argument + rb"(\] [^\n]{0,80}: ?)?\Z"
        if not self._asked and re.search(displayed, self._held):
            self.problem = "sudo on this host displays its prompt in a form that rigup cannot trust"
