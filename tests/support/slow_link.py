"""A TCP port that is far away: every byte arrives later, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

HOST = "127.0.0.1"


@contextlib.contextmanager
def slow_link(port: int, one_way_s: float) -> Iterator[int]:
    """The port on this machine's loopback that leads to ``port`` there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    opened = asyncio.run_coroutine_threadsafe(_listen(port, one_way_s), loop)
    try:
        server = opened.result(10)
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _listen(port: int, one_way_s: float) -> asyncio.Server:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * one_way_s)  # the TCP handshake
        there_reader, there_writer = await asyncio.open_connection(HOST, port)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(
                _pass_on(reader, there_writer, one_way_s), _pass_on(there_reader, writer, one_way_s)
            )
        for end in (writer, there_writer):
            end.transport.abort()

    return await asyncio.start_server(accept, HOST, 0)


async def _pass_on(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, one_way_s: float
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await source.read(1 << 16)
        except OSError:
            data = b""
        loop.call_later(one_way_s, *((sink.write, data) if data else (sink.close,)))
        if not data:
            return


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
