"""What is done to a host, as values that can be shown before they are done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from provisioner.command import Command, Result
from provisioner.errors import CommandFailed
from provisioner.traces import Trace, content_mark
from provisioner.transport.base import Transport
from provisioner.transport.upload import put_command


class Action(Protocol):
    """Something done to a host, that can be shown before it is done."""

    @property
    def label(self) -> str:
        """A few words for people who watch; empty: the description serves."""

    @property
    def traces(self) -> tuple[Trace, ...]:
        """What it leaves on the host; recorded there before it is applied."""

    def describe(self) -> str:
        """One line, as exact as the action is."""

    def apply(self, transport: Transport) -> None:
        """Do it. Raises RigupError when it did not succeed."""


@dataclass(frozen=True)
class Run:
    """Run one command; unless it ``may_fail``, it must succeed. ``label``: shown while it runs."""

    command: Command
    label: str = ""
    may_fail: bool = False
    traces: tuple[Trace, ...] = ()

    def describe(self) -> str:
        return str(self.command)

    def apply(self, transport: Transport) -> None:
        if self.may_fail:
            transport.run(self.command)
        else:
            run_checked(transport, self.command)


@dataclass(frozen=True)
class WriteFile:
    """Put a whole file, owned by root."""

    path: PurePosixPath
    content: str
    mode: int = 0o644
    label: str = ""

    @property
    def traces(self) -> tuple[Trace, ...]:
        return (Trace("file", str(self.path), content_mark(self.content.encode())),)

    def describe(self) -> str:
        return f"write {self.path}"

    def apply(self, transport: Transport) -> None:
        command = put_command(self.content.encode(), self.path, mode=self.mode, sudo=True)
        run_checked(transport, command)


def run_checked(transport: Transport, command: Command) -> Result:
    """Run ``command``; raises CommandFailed when its exit code is not 0."""
    result = transport.run(command)
    if not result.ok:
        raise CommandFailed(result, host=transport.host_name)
    return result


def commands(*items: Command) -> tuple[Action, ...]:
    return tuple(Run(item) for item in items)
