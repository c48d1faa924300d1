"""SSH servers that answer as a real host answered, after the time that it took: many hosts with a
processor each, as far as the client can see, and with a network in between.

`python -m bench.provision.replay` reads its settings as JSON from standard input. The first time
that a command comes, it is run on the real host; from then on its answer is repeated.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import asyncssh

NONCE = re.compile(r"(?:\[rigup |\\n)([0-9a-f]{16})(?: begin|%?[ \]])")
SUDO = "sudo -S -p"
"""A command that becomes root reads its input only after it has said that it is root."""


@dataclass(frozen=True)
class Settings:
    """``ports`` of the simulated hosts; ``rtt_s``: round trip time; ``slow_s``: how much longer
    the first host takes for every command. ``origin``: how asyncssh connects to the real host."""

    ports: list[int]
    host_key: str
    authorized_keys: str
    rtt_s: float
    slow_s: float
    origin: dict[str, Any]


@dataclass
class Answer:
    """What the real host said, with the nonce of that time."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    seconds: float
    nonce: bytes


@dataclass
class Recorder:
    """Asks the real host once per command, however many simulated ones are asked."""

    origin: dict[str, Any]
    answers: dict[str, Answer] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def answer(self, command: str, stdin: bytes) -> Answer:
        nonce = nonce_of(command + stdin.decode("utf-8", "replace"))
        key = (command + stdin.decode("utf-8", "replace")).replace(nonce, "NONCE")
        async with self.lock:
            if key not in self.answers:
                self.answers[key] = await self._ask(command, stdin, nonce)
        found = self.answers[key]
        return Answer(
            found.stdout.replace(found.nonce, nonce.encode()),
            found.stderr.replace(found.nonce, nonce.encode()),
            found.exit_code,
            found.seconds,
            nonce.encode(),
        )

    async def _ask(self, command: str, stdin: bytes, nonce: str) -> Answer:
        async with asyncssh.connect(**self.origin) as connection:
            started = time.monotonic()
            done = await connection.run(command, input=stdin, encoding=None)
            seconds = time.monotonic() - started
        return Answer(
            bytes(done.stdout or b""),
            bytes(done.stderr or b""),
            done.returncode or 0,
            seconds,
            nonce.encode(),
        )


def nonce_of(text: str) -> str:
    """rigup marks sections and prompts with 16 random hexadecimal digits; without any, a word
    that is nowhere."""
    found = NONCE.search(text)
    return found[1] if found else "\0"


async def serve(settings: Settings) -> None:
    recorder = Recorder(settings.origin)
    for place, port in enumerate(settings.ports):
        extra = settings.slow_s if place == 0 else 0.0
        inner = await _ssh_server(settings, recorder, extra)
        await _distant(port, inner, settings.rtt_s / 2)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def _ssh_server(settings: Settings, recorder: Recorder, extra_s: float) -> int:
    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command or ""
        stdin = b"" if SUDO in command else await process.stdin.read()
        answer = await recorder.answer(command, stdin)
        await asyncio.sleep(answer.seconds + extra_s)
        process.stderr.write(answer.stderr)
        process.stdout.write(answer.stdout)
        process.exit(answer.exit_code)

    server = await asyncssh.create_server(
        asyncssh.SSHServer,
        "127.0.0.1",
        0,
        server_host_keys=[settings.host_key],
        authorized_client_keys=settings.authorized_keys,
        process_factory=handle,
        encoding=None,
    )
    return int(server.sockets[0].getsockname()[1])


async def _distant(port: int, inner: int, delay_s: float) -> None:
    """Passes every byte on after the delay, both ways."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay_s)  # the TCP handshake
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", inner)
        await asyncio.gather(
            _delayed(reader, there_writer, delay_s), _delayed(there_reader, writer, delay_s)
        )

    await asyncio.start_server(accept, "127.0.0.1", port)


async def _delayed(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay_s: float
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await source.read(65536)
        except OSError:
            data = b""
        loop.call_later(delay_s, sink.write if data else _closed(sink), data)
        if not data:
            return


def _closed(sink: asyncio.StreamWriter) -> Any:
    return lambda _: sink.close()


if __name__ == "__main__":
    asyncio.run(serve(Settings(**json.load(sys.stdin))))
