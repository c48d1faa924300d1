"""A host that answers fact scripts and package commands from a few fields. It runs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from provisioner.actions import commands
from provisioner.command import Command, Result
from provisioner.facts import PACKAGES, Facts
from provisioner.steps import Blocked, Change, Outcome, Satisfied
from provisioner.transport.fake import FakeTransport

OS_TEXT = (
    'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\nRIGUP_KERNEL=6.1\nRIGUP_ARCH=x86_64\n'
    "RIGUP_BOOT=b\n"
)
BUSY = "manager|apt\nlock|12|/usr/bin/apt-get install one\n"
"""What the packages section says while a package manager is at work."""
SECTION = re.compile(r"([0-9a-f]{16}) begin (\w+)")


@dataclass
class ScriptedHost:
    """``packages``: what is installed now. ``answers``: first word of a command -> its answer."""

    name: str = "gpu01"
    packages: dict[str, str] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Callable[[Command], Result]] = field(default_factory=dict)

    def transport(self) -> FakeTransport:
        return FakeTransport(self.answer, host_name=self.name)

    def answer(self, command: Command) -> Result:
        if command.words == ("sh", "-s"):
            return self._facts(command)
        answer = self.answers.get(command.words[0])
        if answer is not None:
            return answer(command)
        if command.words[0] == "install":
            self.packages[command.words[1]] = "1"
        return Result(command, 0)

    def _facts(self, command: Command) -> Result:
        assert command.stdin is not None
        told = ""
        for nonce, name in SECTION.findall(command.stdin.decode()):
            told += f"\n{nonce} begin {name}\n{self._section(name)}\n{nonce} exit 0\n"
        return Result(command, 0, told.encode())

    def _section(self, name: str) -> str:
        if name == "packages" and name not in self.sections:
            rows = "".join(f"ii |{key}|{value}\n" for key, value in self.packages.items())
            return f"manager|apt\n{rows}"
        defaults = {"os": OS_TEXT, "login": "USER=ml\nUID=1000\nHOME=/home/ml\n", "python": "none"}
        return self.sections.get(name, defaults.get(name, ""))


@dataclass(frozen=True)
class Package:
    """A step that wants one package."""

    name: str
    needs_reboot: bool = False
    action: str = "install"
    blocked: str | None = None

    def check(self, facts: Facts, host: object) -> Outcome:
        if self.name in facts[PACKAGES].versions:
            return Satisfied(f"{self.name} is there")
        if self.blocked:
            return Blocked(self.blocked, "ask somebody")
        install = commands(Command.of(self.action, self.name, sudo=True))
        return Change(f"{self.name} is missing", install, needs_reboot=self.needs_reboot)
