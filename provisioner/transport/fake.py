"""A host made of answers, for tests of code that talks to hosts. It runs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from provisioner.command import Command, Result
from provisioner.errors import CommandFailed
from provisioner.transport.base import OutputSink, Session

Answer = Callable[[Command], Result]


class FakeTransport:
    """Answers every command through ``answer`` and remembers what was asked and stored."""

    def __init__(self, answer: Answer | None = None, *, host_name: str = "fake01") -> None:
        self._answer = answer or (lambda command: Result(command, 0))
        self._host_name = host_name
        self.commands: list[Command] = []
        self.files: dict[PurePosixPath, bytes] = {}

    @property
    def host_name(self) -> str:
        return self._host_name

    def run(self, command: Command, *, on_output: OutputSink | None = None) -> Result:
        self.commands.append(command)
        result = self._answer(command)
        if on_output is not None and result.stdout:
            on_output(result.stdout)
        return result

    def put(self, data: bytes, path: PurePosixPath, *, mode: int = 0o644) -> None:
        self.files[path] = data

    def get(self, path: PurePosixPath) -> bytes:
        if path not in self.files:
            missing = Result(Command.of("cat", str(path)), 1, b"", b"No such file or directory")
            raise CommandFailed(missing, host=self._host_name)
        return self.files[path]

    def open_session(self, command: Command) -> Session:
        raise NotImplementedError("a fake host opens no sessions")

    def close(self) -> None:
        pass
