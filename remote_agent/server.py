"""``serve``: one loop over one connection, no threads, nothing to do while nobody asks."""

from __future__ import annotations

import os
import select
import sys
import traceback
from typing import List

from remote_agent.faults import AgentFault, complain, with_remedy
from remote_agent.layout import Layout
from remote_agent.operations import Operations
from remote_agent.own_file import REFRESH_S, OwnFile, own_path
from remote_agent.processes import boot_id
from remote_agent.protocol.messages import PROTOCOL, Hello, Reply, Request
from remote_agent.protocol.snapshot import DIGEST
from remote_agent.protocol.values import ProtocolError
from remote_agent.tasks import Tasks
from remote_agent.wire import Wire


def serve(layout: Layout) -> int:
    """Speak the protocol on stdin and stdout until stdin ends. Returns the exit code."""
    server = Server(layout)
    try:
        server.run()
    except BrokenPipeError:
        return 0  # the client is gone; every job lives on without us
    except ProtocolError as error:
        complain("protocol error: %s" % error)
        return 1
    return 0


class Server:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._wire = Wire()
        self._own_file = OwnFile(own_path())
        self._tasks = Tasks(self._reply, self._fail)
        self._operations = Operations(
            layout, self._wire.send, self._tasks.cancel, lambda: self._wire.congested
        )

    def run(self) -> None:
        self._wire.send(_hello(self._layout))
        self._operations.begin()
        try:
            while self._turn():
                pass
        finally:
            self._operations.close()

    def _turn(self) -> bool:
        """Wait for something to do and do it; False at the end of the input."""
        self._own_file.keep()
        ready = self._wait()
        if self._wire.output in ready:
            self._wire.flush()
        if self._wire.input in ready and not self._receive():
            return False
        self._tasks.run_due(ready)
        return True

    def _wait(self) -> List[int]:
        poll = select.poll()
        if not self._wire.congested:
            poll.register(self._wire.input, select.POLLIN)
        if self._wire.unsent_bytes:
            poll.register(self._wire.output, select.POLLOUT)
        for fd in self._tasks.fds():
            poll.register(fd, select.POLLIN)
        timeout = self._tasks.timeout()
        pause_s = REFRESH_S if timeout is None else min(timeout, REFRESH_S)
        return [fd for fd, _ in poll.poll(pause_s * 1000)]

    def _receive(self) -> bool:
        messages = self._wire.read()
        if messages is None:
            return False
        for message in messages:
            if not isinstance(message, Request):
                raise ProtocolError("expected a request, got %s" % type(message).__name__)
            self._begin(message)
        return True

    def _begin(self, request: Request) -> None:
        try:
            answer = self._operations.handle(request)
        except Exception as error:
            self._fail(request.id, error)
            return
        if isinstance(answer, tuple):
            self._reply(Reply(request.id, result=answer[0], payload=answer[1]))
        else:
            self._tasks.add(request.id, answer)

    def _reply(self, reply: Reply) -> None:
        """An answer that is too large for the protocol fails alone."""
        try:
            self._wire.send(reply)
        except ProtocolError as error:
            told = {"code": "too-large", "message": str(error)}
            self._wire.send(Reply(reply.id, ok=False, error=told))

    def _fail(self, request_id: int, error: Exception) -> None:
        """One broken request is answered as such; the connection and the others go on."""
        self._wire.send(Reply(request_id, ok=False, error=_describe(error)))


def _describe(error: Exception) -> "dict[str, str]":
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, AgentFault):
        return {"code": error.code, "message": error.message}
    if isinstance(error, ProtocolError):
        return {"code": "bad-request", "message": str(error)}
    if isinstance(error, OSError):
        return {"code": "io-error", "message": with_remedy(error)}
    complain("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    return {"code": "internal", "message": "%s: %s" % (type(error).__name__, error)}


def _hello(layout: Layout) -> Hello:
    return Hello(
        protocol=PROTOCOL,
        agent=_own_hash(),
        boot_id=boot_id(),
        python="%d.%d.%d" % sys.version_info[:3],
        user=_user_name(),
        state_dir=layout.root,
        pid=os.getpid(),
    )


def _own_hash() -> str:
    """The archive is named after its hash; see :mod:`provisioner.agent.bundle`."""
    stem = os.path.basename(own_path()).partition(".")[0]
    return stem if DIGEST.match(stem) else "source"


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
