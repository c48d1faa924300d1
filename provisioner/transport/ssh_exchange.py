"""What travels over one channel: a command's run from start to exit, or a program's streams."""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import paramiko

from provisioner.command import Command, Result, Secret
from provisioner.errors import CommandTimeout, ConnectionLost, SudoError
from provisioner.transport.base import OutputSink
from provisioner.transport.deadline import Deadline, Watch, watched
from provisioner.transport.login_shell import for_any_shell
from provisioner.transport.output import OutputBuffer
from provisioner.transport.ssh_errors import Translated, connection_lost
from provisioner.transport.sudo import SudoDialogue

CHUNK = 65536
STDERR_KEPT = 8192
STDIN_RETRY_S = 0.01
EXIT_POLL_S = 0.1
CLOSE_TIMEOUT_S = 2.0
BEGIN_TIMEOUT_S = 30.0
"""How long a host may take to start a program, or a program to read what it is sent."""
MIN_RATE = 8192
"""Bytes per second, below which sending to a program counts as hanging."""

WatchLink = Callable[[float], AbstractContextManager[Watch]]
"""Makes a context that breaks the whole connection where its body takes longer (in seconds)."""


class Exchange:
    """One command's run on one channel: streams both ways until its exit status."""

    def __init__(
        self,
        host_name: str,
        channel: paramiko.Channel,
        command: Command,
        on_output: OutputSink | None,
        deadline: Deadline,
    ) -> None:
        self._host_name = host_name
        self._channel = channel
        self._command = command
        self._output = OutputBuffer(command, host_name, on_output)
        self._deadline = deadline
        self._stdin = memoryview(command.stdin or b"")
        self._stdin_open = True
        self._sudo: SudoDialogue | None = None

    def run(self, password: Secret | None) -> Result:
        """Raises CommandTimeout, SudoError, ConnectionLost, or TransportError for too much
        output."""
        line = self._command.render()
        if self._command.sudo:
            self._sudo = SudoDialogue(password, self._channel.sendall)
            line = self._sudo.wrap(self._command)
        begin_s = min(BEGIN_TIMEOUT_S, self._deadline.left())
        begin(self._channel, for_any_shell(line), self._host_name, begin_s)
        with Translated(self._host_name):
            while not self._ended():
                self._feed_stdin()
                self._wait()
                self._drain()
            self._drain()
        return self._result()

    def _ended(self) -> bool:
        return bool(self._channel.exit_status_ready() and self._channel.eof_received) or bool(
            self._channel.closed
        )

    def _wait(self) -> None:
        left = self._deadline.left()
        if not left:
            raise CommandTimeout(
                f"`{self._command}` did not end in time",
                host=self._host_name,
                remedy="look at the host; raise command_timeout in the inventory if it is slow",
            )
        pending = self._stdin_open and self._may_send()
        pause = STDIN_RETRY_S if pending else min(left, 1.0)
        if self._channel.eof_received:  # for select, an ended stream is always ready
            self._channel.status_event.wait(min(pause, EXIT_POLL_S))
        else:
            select.select([self._channel], [], [], pause)

    def _may_send(self) -> bool:
        return self._sudo is None or self._sudo.passed

    def _feed_stdin(self) -> None:
        if not self._stdin_open or not self._may_send():
            return
        while self._stdin and self._channel.send_ready():
            sent = self._channel.send(self._stdin[:CHUNK].tobytes())
            if sent == 0:
                break
            self._stdin = self._stdin[sent:]
        if not self._stdin:
            self._stdin_open = False
            self._channel.shutdown_write()

    def _drain(self) -> None:
        while self._channel.recv_ready():
            self._output.add_stdout(self._channel.recv(CHUNK))
        while self._channel.recv_stderr_ready():
            self._keep_stderr(self._channel.recv_stderr(CHUNK))

    def _keep_stderr(self, chunk: bytes) -> None:
        if self._sudo is not None:
            chunk = self._sudo.receive(chunk)
            self._raise_sudo_problem()
        self._output.add_stderr(chunk)

    def _raise_sudo_problem(self) -> None:
        if self._sudo is None or self._sudo.problem is None:
            return
        remedy = (
            "give it with --ask-sudo-password, or --sudo-password-fd N"
            if self._sudo.needs_password
            else "check the password and the user's sudo rights on the host"
        )
        raise SudoError(self._sudo.problem, host=self._host_name, remedy=remedy)

    def _result(self) -> Result:
        code = self._channel.recv_exit_status() if self._channel.exit_status_ready() else -1
        if code == -1 and self._is_lost():
            raise connection_lost(self._host_name)
        if self._sudo is not None and not self._sudo.passed:
            self._output.add_stderr(self._sudo.finish())
            self._raise_sudo_problem()
        return self._output.result(code)

    def _is_lost(self) -> bool:
        """A command that a signal ended has no exit status either (RFC 4254, section 6.10), but
        then its output was brought to an end."""
        transport = self._channel.get_transport()
        return not self._channel.eof_received or transport is None or not transport.is_active()


def begin(channel: paramiko.Channel, line: str, host_name: str, within_s: float) -> None:
    """Start ``line`` on the host. Paramiko waits for the answer without limit: here the channel
    is closed after ``within_s`` seconds. Raises CommandTimeout, ConnectionLost."""
    with watched(within_s, lambda: close_channel(channel)) as watch:
        try:
            with Translated(host_name):
                channel.exec_command(line)
        except ConnectionLost as error:
            if not watch.is_late:
                raise
            raise CommandTimeout(
                f"the host did not start the command within {within_s:.3g} s",
                host=host_name,
                remedy="look at the host's load and disk, then try again",
            ) from error


class ChannelSession:
    """A channel as a :class:`~provisioner.transport.base.Session`.

    Reading waits as long as the link lives; whoever waits for an answer has a deadline of its own.
    Writing fails when the program takes nothing for ``write_timeout_s``, or less than ``MIN_RATE``.
    """

    def __init__(
        self,
        channel: paramiko.Channel,
        host_name: str,
        watch_link: WatchLink,
        *,
        write_timeout_s: float = BEGIN_TIMEOUT_S,
    ) -> None:
        channel.settimeout(write_timeout_s)
        self._channel = channel
        self._host_name = host_name
        self._watch_link = watch_link
        self._write_timeout_s = write_timeout_s
        self._stderr = b""

    def read(self, limit: int = CHUNK) -> bytes:
        with Translated(self._host_name):
            data = self._receive(limit)
        self._drain_stderr()
        if not data and not self._ended_cleanly():
            raise connection_lost(self._host_name)
        return data

    def _receive(self, limit: int) -> bytes:
        while True:
            try:
                data: bytes = self._channel.recv(limit)
            except TimeoutError:
                self._drain_stderr()
            else:
                return data

    def write(self, data: bytes) -> None:
        deadline = Deadline(self._write_timeout_s + len(data) / MIN_RATE)
        rest = memoryview(data)
        with self._watch_link(self._write_timeout_s) as watch, Translated(self._host_name):
            while rest:
                try:
                    sent = self._channel.send(rest[:CHUNK].tobytes())
                except TimeoutError:
                    raise self._takes_nothing() from None
                if sent == 0:
                    raise connection_lost(self._host_name)
                rest = rest[sent:]
                watch.renew(self._write_timeout_s)
                if rest and deadline.has_passed:
                    raise self._takes_nothing()

    def _takes_nothing(self) -> CommandTimeout:
        return CommandTimeout(
            "the program on the host stopped reading what it was sent",
            host=self._host_name,
            remedy="look at the host's load and disk, then try again",
        )

    def stderr_tail(self) -> str:
        self._drain_stderr()
        return self._stderr.decode("utf-8", "replace")

    def exit_code(self) -> int | None:
        if not self._channel.exit_status_ready():
            return None
        code = self._channel.exit_status
        return code if code >= 0 else None

    def close(self) -> None:
        with self._watch_link(CLOSE_TIMEOUT_S):
            close_channel(self._channel)

    def _ended_cleanly(self) -> bool:
        transport = self._channel.get_transport()
        return transport is not None and transport.is_active()

    def _drain_stderr(self) -> None:
        while self._channel.recv_stderr_ready():
            self._stderr = (self._stderr + self._channel.recv_stderr(CHUNK))[-STDERR_KEPT:]


def close_channel(channel: paramiko.Channel) -> None:
    """Close a channel whose link may be gone already."""
    with suppress(OSError, EOFError, paramiko.SSHException):
        channel.close()
