"""The agent's two ends of the connection: bytes in, bytes out, never blocking, never mixed."""

from __future__ import annotations

import os
from collections import deque
from typing import Deque, List, Optional

from remote_agent.protocol.codec import Decoder
from remote_agent.protocol.messages import Message, encode_message, parse_message

READ_SIZE = 1 << 18
HIGH_WATER = 8 << 20
"""Unsent bytes above which no further request is read and samples are left out."""


class Wire:
    """Owns copies of stdin and stdout; the standard ones then lead nowhere, so that no stray
    ``print`` can damage the stream."""

    def __init__(self) -> None:
        self.input = os.dup(0)
        self.output = os.dup(1)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        os.close(nothing)
        os.set_blocking(self.input, False)
        os.set_blocking(self.output, False)
        self._decoder = Decoder()
        self._unsent: Deque[memoryview] = deque()
        self.unsent_bytes = 0

    @property
    def congested(self) -> bool:
        return self.unsent_bytes > HIGH_WATER

    def read(self) -> Optional[List[Message]]:
        """The messages that became complete; None at end of file. Raises ProtocolError."""
        try:
            data = os.read(self.input, READ_SIZE)
        except BlockingIOError:
            return []
        if not data:
            return None
        return [parse_message(frame) for frame in self._decoder.feed(data)]

    def send(self, message: Message) -> None:
        data = encode_message(message)
        self._unsent.append(memoryview(data))
        self.unsent_bytes += len(data)
        self.flush()

    def flush(self) -> None:
        """Write as much as the other side takes now. Raises BrokenPipeError when it is gone."""
        while self._unsent:
            try:
                count = os.write(self.output, self._unsent[0])
            except BlockingIOError:
                return
            self.unsent_bytes -= count
            rest = self._unsent[0][count:]
            if rest:
                self._unsent[0] = rest
            else:
                self._unsent.popleft()
