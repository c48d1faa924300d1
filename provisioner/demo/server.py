"""A real SSH server on loopback that runs commands as the current user (asyncssh).

Runs as its own process (``python -m provisioner.demo.server``) so that the demo can kill it in the
middle of a training run, which is what a lost link looks like from outside.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path
from typing import Any

import asyncssh

CHUNK = 65536


async def serve(port: int, host_key: Path, authorized_keys: Path) -> None:
    """Listen on 127.0.0.1 until cancelled; only the authorized keys may log in."""
    server = await asyncssh.create_server(
        asyncssh.SSHServer,
        "127.0.0.1",
        port,
        server_host_keys=[str(host_key)],
        authorized_client_keys=str(authorized_keys),
        process_factory=_run_command,
        encoding=None,
    )
    print("ready", flush=True)
    await server.wait_closed()


async def _run_command(process: asyncssh.SSHServerProcess[bytes]) -> None:
    child = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        process.command or "exec sh",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path.home(),
    )
    assert child.stdin is not None
    feeding = asyncio.create_task(_feed(process.stdin, child.stdin))
    await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
    feeding.cancel()
    process.exit(await child.wait())


async def _feed(source: Any, program: asyncio.StreamWriter) -> None:
    """The client's bytes, then end of file; also when the client is gone."""
    try:
        await _pump(source, program)
    finally:
        program.close()


async def _pump(source: Any, sink: Any) -> None:
    """Copy until the end of the source; a side that is gone ends it quietly."""
    with contextlib.suppress(asyncssh.Error, OSError):
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("host_key", type=Path)
    parser.add_argument("authorized_keys", type=Path)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.host_key, options.authorized_keys))


if __name__ == "__main__":
    main()
