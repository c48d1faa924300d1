"""Becoming root without a password ever meeting an argument, a log or the command's own input.

The command is started behind a prompt and a "passed" marker, both made from a nonce. The password
is written only when the prompt appears, the command's standard input only after the marker: a
password can never end up as input of the command, nor input as a password.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from provisioner.command import Command, Secret

REFUSALS = {
    "you must have a tty": "sudo on this host insists on a terminal (requiretty)",
    "is not in the sudoers file": "the login user may not use sudo",
    "may not run sudo": "the login user may not use sudo",
    "is not allowed to execute": "the login user may not run this with sudo",
    "sudo: not found": "sudo is not installed and the login user is not root",
    "sudo: command not found": "sudo is not installed and the login user is not root",
}


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
        return f"[rigup {self.nonce} password]"

    @property
    def marker(self) -> str:
        return f"[rigup {self.nonce} root]\n"

    def wrap(self, command: Command) -> str:
        """The line to execute: as root directly, or through sudo where we are not root."""
        begin = f"printf '[rigup {self.nonce} root]\\n' >&2; exec \"$@\""
        inner = shlex.join(["sh", "-c", begin, "sh", *command.words])
        sudo = shlex.join(["sudo", "-S", "-p", self.prompt, "--"])
        return f'if [ "$(id -u)" -eq 0 ]; then exec {inner}; else exec {sudo} {inner}; fi'

    def receive(self, chunk: bytes) -> bytes:
        if self.passed:
            return chunk
        self._held += chunk
        self._find_marker()
        if self.passed:
            rest, self._held = self._held, b""
            return rest
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
