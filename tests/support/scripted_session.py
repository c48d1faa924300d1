"""An agent's end of a session, scripted: what it says first, and how it answers each request."""

from __future__ import annotations

import queue
from collections.abc import Callable

from remote_agent.protocol.codec import Decoder
from remote_agent.protocol.messages import Hello, Request, parse_message

HELLO = Hello(1, "a" * 64, "boot")


class ScriptedSession:
    """Says ``opening``; answers each request with ``answer(request)``, bytes or None."""

    def __init__(
        self, opening: bytes, answer: Callable[[Request], bytes | None] = lambda request: b""
    ) -> None:
        self._incoming: queue.Queue[bytes] = queue.Queue()
        self._answer = answer
        self._decoder = Decoder()
        self.closed = False
        if opening:
            self._incoming.put(opening)

    def read(self, limit: int = 65536) -> bytes:
        return self._incoming.get()

    def write(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            message = parse_message(frame)
            assert isinstance(message, Request)
            answer = self._answer(message)
            if answer is not None:
                self._incoming.put(answer)

    def stderr_tail(self) -> str:
        return "Segmentation fault"

    def exit_code(self) -> int | None:
        return 139

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._incoming.put(b"")
