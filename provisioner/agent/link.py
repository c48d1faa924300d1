"""Requests and replies over one session: a reader thread hands each reply to its caller."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

from provisioner.errors import (
    AgentError,
    CommandTimeout,
    ConnectionLost,
    RigupError,
    TransportError,
    UsageError,
)
from provisioner.transport.base import Session
from remote_agent.protocol.codec import Decoder
from remote_agent.protocol.messages import (
    PROTOCOL,
    Event,
    Hello,
    Message,
    Reply,
    Request,
    Unavailable,
    encode_message,
    parse_message,
)
from remote_agent.protocol.values import ProtocolError

CALL_TIMEOUT_S = 30.0
"""How long an agent may take to greet, and to answer a request."""

MAX_CODE = 64
MAX_REASON = 4096
"""Characters of an error's code and text that are kept of what a host says."""

BANNER_REMEDY = (
    "something prints text when a program starts over SSH there; keep ~/.bashrc and ~/.profile "
    "silent for non-interactive shells"
)


class AgentUnavailable(AgentError):
    """There is no usable agent at the other end; ``code`` is ``absent``, ``damaged``,
    ``no-python``, ``state-dir`` or ``other-protocol``. ``detail``: what the host said of it."""

    detail = ""


class Call:
    """One request under way."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.done = threading.Event()
        self.reply: Reply | None = None
        self.on_event: Callable[[Event], None] | None = None
        self.on_end: Callable[[], None] | None = None


class AgentLink:
    """Owns the session. The first error ends it and is what every caller gets from then on."""

    def __init__(
        self, session: Session, host_name: str, *, call_timeout_s: float = CALL_TIMEOUT_S
    ) -> None:
        self.host_name = host_name
        self.call_timeout_s = call_timeout_s
        self._session = session
        self._ids = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._hello: Hello | None = None
        self._greeted = threading.Event()
        self._broken: RigupError | None = None
        name = f"agent-{host_name}"
        self._reader = threading.Thread(target=self._read_all, name=name, daemon=True)
        self._reader.start()
        self._await_hello()

    @property
    def hello(self) -> Hello:
        if self._hello is None:
            raise self._problem()
        return self._hello

    def call(
        self,
        op: str,
        args: dict[str, Any] | None = None,
        payload: bytes = b"",
        *,
        timeout_s: float | None = None,
    ) -> Reply:
        """``timeout_s`` None: :attr:`call_timeout_s`."""
        return self.finish(self.begin(op, args, payload), timeout_s=timeout_s)

    def begin(
        self,
        op: str,
        args: dict[str, Any] | None = None,
        payload: bytes = b"",
        *,
        on_event: Callable[[Event], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> Call:
        """Send a request without waiting. ``on_event`` and ``on_end`` (the link broke or the
        request ended) are called by the reader thread and must be quick."""
        call = Call(Request(next(self._ids), op, args or {}, payload))
        call.on_event, call.on_end = on_event, on_end
        try:
            data = encode_message(call.request)
        except ProtocolError as error:
            raise UsageError(
                f"this is too much for one request: {error}",
                host=self.host_name,
                remedy="put long arguments and variables into a file that travels with the code",
            ) from error
        with self._lock:
            if self._broken is not None:
                raise self._problem()
            self._calls[call.request.id] = call
        self._send(data)
        return call

    def finish(self, call: Call, *, timeout_s: float | None = None) -> Reply:
        """Wait for the reply. Raises AgentError when the agent refused."""
        timeout_s = self.call_timeout_s if timeout_s is None else timeout_s
        answered = call.done.wait(timeout_s)
        self.forget(call)
        if not answered:
            raise CommandTimeout(
                f"the agent did not answer `{call.request.op}` within {timeout_s:g} s",
                host=self.host_name,
                remedy="check the host's load, disk and network, then try again",
            )
        if call.reply is None:
            raise self._problem()
        if call.reply.ok:
            return call.reply
        raise self._refusal(call.reply)

    def _refusal(self, reply: Reply) -> AgentError:
        told = reply.error or {}
        code = told.get("code", "failed")[:MAX_CODE]
        message = told.get("message", "the agent refused")[:MAX_REASON]
        return AgentError(message, code=code, host=self.host_name)

    def forget(self, call: Call) -> None:
        with self._lock:
            self._calls.pop(call.request.id, None)

    def problem(self) -> RigupError | None:
        """Why the link is down, or None while it is up."""
        return None if self._broken is None else self._problem()

    def close(self) -> None:
        self._break(ConnectionLost("the agent connection was closed", host=self.host_name))

    def _send(self, data: bytes) -> None:
        try:
            with self._write_lock:
                self._session.write(data)
        except TransportError as error:
            self._break(error)
            raise self._problem() from error

    def _await_hello(self) -> None:
        if not self._greeted.wait(self.call_timeout_s):
            self._break(
                CommandTimeout(
                    f"no agent answered within {self.call_timeout_s:g} s",
                    host=self.host_name,
                    remedy="check the host's load and disk",
                )
            )
        if self._broken is not None:
            raise self._problem()

    def _read_all(self) -> None:
        decoder = Decoder()
        try:
            while data := self._session.read():
                for frame in decoder.feed(data):
                    self._dispatch(parse_message(frame))
            self._break(self._ended())
        except ProtocolError as error:
            self._break(self._nonsense(error))
        except RigupError as error:
            self._break(error)
        except Exception as error:  # a reader that dies silently leaves its callers waiting
            self._break(self._nonsense(ProtocolError(f"{type(error).__name__}: {error}")))

    def _dispatch(self, message: Message) -> None:
        if self._hello is None:
            self._hello = self._checked_hello(message)
            self._greeted.set()
            return
        if not isinstance(message, Reply | Event):
            raise ProtocolError(f"unexpected {type(message).__name__}")
        with self._lock:
            call = self._calls.get(message.id)
        if call is None:
            return  # its caller gave up
        if isinstance(message, Reply):
            call.reply = message
            _end(call)
        elif call.on_event is not None:
            call.on_event(message)

    def _checked_hello(self, message: Message) -> Hello:
        if isinstance(message, Unavailable):
            reason, detail = message.reason[:MAX_CODE], message.detail[:MAX_REASON]
            unavailable = AgentUnavailable(
                f"no agent can run there ({reason}) {detail}".rstrip(),
                code=reason,
                host=self.host_name,
            )
            unavailable.detail = detail
            raise unavailable
        if not isinstance(message, Hello):
            raise ProtocolError(f"expected hello, got {type(message).__name__}")
        if message.protocol != PROTOCOL:
            raise AgentUnavailable(
                f"the agent speaks protocol {message.protocol}, we speak {PROTOCOL}",
                code="other-protocol",
                host=self.host_name,
                remedy="provision the host again with this version of rigup",
            )
        return message

    def _break(self, error: RigupError) -> None:
        """Wake everybody who waits, at once; only the first reason counts."""
        with self._lock:
            if self._broken is None:
                self._broken = error
            waiting = list(self._calls.values())
            self._calls.clear()
        self._greeted.set()
        self._session.close()
        for call in waiting:
            _end(call)

    def _problem(self) -> RigupError:
        """A fresh exception for every caller: a raised one carries its own traceback."""
        error = self._broken
        if error is None:
            return AgentError("the agent has not said hello yet", host=self.host_name)
        copy = type(error).__new__(type(error))
        copy.__dict__.update(error.__dict__)
        copy.args = error.args
        return copy

    def _ended(self) -> RigupError:
        said = self._session.stderr_tail().strip()
        code = self._session.exit_code()
        status = f" (exit code {code})" if code is not None else ""
        return ConnectionLost(
            f"the connection to the agent ended{status}" + (f": {said}" if said else ""),
            host=self.host_name,
            remedy="jobs on the host go on; connect again",
        )

    def _nonsense(self, error: ProtocolError) -> RigupError:
        remedy = BANNER_REMEDY if self._hello is None else "provision the host again"
        return AgentError(str(error), code="protocol", host=self.host_name, remedy=remedy)


def _end(call: Call) -> None:
    call.done.set()
    if call.on_end is not None:
        call.on_end()
