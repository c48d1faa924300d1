"""The job façade: submit, find, follow, stop, pull. What commands and the dashboard build on."""

from __future__ import annotations

import getpass
import glob
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from inventory import Host, Inventory, InventoryError
from provisioner import mirrors
from provisioner.agent.client import AgentClient, LogChunk
from provisioner.agent.connect import open_agent
from provisioner.agent.link import CALL_TIMEOUT_S
from provisioner.agent.patient import Connect, OnBreak, PatientAgent
from provisioner.containers import engine
from provisioner.errors import (
    CommandFailed,
    CommandTimeout,
    RigupError,
    UsageError,
)
from provisioner.home import rigup_home, write_private
from provisioner.parallel import as_rigup_error, each
from provisioner.sync import CodeTree, code_root, freeze
from provisioner.transport.base import Transport
from provisioner.transport.ssh import SshTransport
from remote_agent.protocol.job import CONTAINER, DAMAGED, PROCESS, JobRecord, JobSpec

T = TypeVar("T")

PerHost: TypeAlias = tuple[Host, T | None, RigupError | None]
"""A host with its result or its error."""

LOG_WAIT_S = 20.0
LOG_CHUNK = 262_144
CONNECT_PHASES = 4
"""TCP, key exchange, login, channel: each may take the host's connect timeout."""
AUTO = "auto"
SMALL_FILE = 1 << 20

JOB_ID_PART = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


OnCut = Callable[[int, int], None]
"""Told how many bytes were read of a log, and how many it has now, which are fewer."""


def _ignore_cut(read: int, left: int) -> None:
    return


@dataclass(frozen=True)
class Script:
    """A script to run. ``root`` is what travels with it; ``started_in`` becomes the job's working
    directory when it lies below the root."""

    path: Path
    root: Path
    started_in: Path

    @property
    def directory(self) -> str:
        """The working directory below the root, "" for the root itself."""
        if not self.started_in.is_relative_to(self.root) or self.started_in == self.root:
            return ""
        return self.started_in.relative_to(self.root).as_posix()

    @property
    def argument(self) -> str:
        """The script's path as seen from the working directory."""
        return Path(os.path.relpath(self.path, self.root / self.directory)).as_posix()


@dataclass(frozen=True)
class Request:
    """What ``train`` was asked.

    gpus None: one where the host has any. runtime auto: container where rigup runs one on the
    host, else process.
    """

    script: Script
    arguments: tuple[str, ...] = ()
    gpus: int | None = None
    runtime: str = AUTO
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    name: str | None = None

    def __post_init__(self) -> None:
        if self.runtime not in (AUTO, PROCESS, CONTAINER):
            raise UsageError(f"--runtime {self.runtime}: expected auto, process or container")


def connect(host: Host) -> AgentClient:
    """The agent on ``host``, deployed first where it is missing or old.

    Raises TransportError, BlockedError (host key) or AgentError.
    """
    transport = SshTransport(host)
    try:
        client = _agent(transport, host)
    except BaseException:
        transport.close()
        raise
    client.on_close = transport.close
    return client


def _agent(transport: SshTransport, host: Host) -> AgentClient:
    timeout_s = min(CALL_TIMEOUT_S, host.command_timeout_s)
    return open_agent(transport, host.state_dir, call_timeout_s=timeout_s)


def on_each(
    hosts: Sequence[Host], work: Callable[[Host], T], *, limited: bool = True
) -> list[PerHost[T]]:
    """Run ``work`` for every host at once: each gets a result or an error, in order.

    Where ``limited``, a host that takes longer than its time limits allow gets CommandTimeout.
    Each wait has a limit already; this one is for a host that answers, and never ends.
    """

    def attempt(host: Host) -> PerHost[T]:
        try:
            return host, work(host), None
        except Exception as error:
            return host, None, as_rigup_error(error, host.name)

    if not limited:
        return each(hosts, attempt)
    return each(hosts, attempt, limit_s=_longest_s, overrun=_overrun)


def _longest_s(host: Host) -> float:
    """Connecting (every jump host on the way as well) and two commands in a row."""
    hops = 1
    way = host.via
    while way is not None:
        hops, way = hops + 1, way.via
    return hops * CONNECT_PHASES * host.connect_timeout_s + 2 * host.command_timeout_s


def _overrun(host: Host) -> PerHost[T]:
    error = CommandTimeout(
        f"the host was not done after {_longest_s(host):.0f} s",
        host=host.name,
        remedy="look at the host; raise command_timeout in the inventory if it is slow",
    )
    return host, None, error


def with_agent(host: Host, work: Callable[[AgentClient], T]) -> T:
    """Connect, do ``work``, close."""
    client = connect(host)
    try:
        return work(client)
    finally:
        client.close()


def damaged_jobs(results: Sequence[PerHost[Sequence[JobRecord]]]) -> list[PerHost[None]]:
    """An error for every job whose records its host cannot read."""
    return [
        (host, None, _damage(host, record))
        for host, records, _ in results
        for record in records or ()
        if record.state == DAMAGED
    ]


def _damage(host: Host, record: JobRecord) -> RigupError:
    evidence = record.verdict.evidence if record.verdict else "no reason told"
    return RigupError(
        f"job {record.job_id} is damaged: {evidence}",
        host=host.name,
        remedy=f"invoke stop {record.job_id} ends what still runs of it; its log and its outputs "
        "can be read as before",
    )


def find_script(name: str, directory: Path, examples: Path) -> Script:
    """``name`` in the current directory, then in the examples.

    Raises UsageError that lists where it looked and what is there.
    """
    here, example = directory / name, examples / name
    if here.is_file():
        path = here.resolve()
        return Script(path, code_root(path), directory.resolve())
    if example.is_file():
        return Script(example.resolve(), examples.resolve(), examples.resolve())
    shipped = ", ".join(sorted(path.name for path in examples.glob("*.py"))) or "none"
    raise UsageError(
        f"no script {name!r} in {directory} or {examples}",
        remedy=f"check the name, or use an example: {shipped}",
    )


def new_job_id(name: str, *, now: float | None = None) -> str:
    """``<name>-<month><day>-<time>-<random>``: unique, readable, sortable by eye."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32] or "job"
    moment = time.strftime("%m%d-%H%M%S", time.localtime(now))
    return f"{stem}-{moment}-{secrets.token_hex(2)}"


def freeze_code(request: Request) -> CodeTree:
    """The code as it is now. Raises UsageError."""
    return freeze(request.script.root, request.script.path)


def train(host: Host, request: Request, tree: CodeTree) -> JobRecord:
    """Send what the host lacks of the frozen code, start the job detached.

    Remembers which host has the job. Raises UsageError, TransportError, AgentError.
    """
    transport = SshTransport(host)
    try:
        image = _image(host, transport, request.runtime)
        client = _agent(transport, host)
        try:
            record = client.submit(_job_spec(client, host, request, tree, image))
        finally:
            client.close()
    finally:
        transport.close()
    _remember(record.job_id, host)
    return record


def find(
    job: str, inventory: Inventory, host: str | None, *, newest: bool = False
) -> tuple[Host, JobRecord]:
    """The one job whose id begins with ``job``: on ``host``, on the host remembered for it, else
    wherever it is found.

    Of several, the newest where ``newest`` allows it. Raises UsageError when there is none or
    more than one; the first host's error when a host could not be asked and no other has it. Where
    a remembered host cannot be asked, no other is: it could pass off a job of its own.
    """
    if not JOB_ID_PART.fullmatch(job):
        raise UsageError(f"{job!r} is no job id nor the beginning of one", remedy="invoke jobs")
    if host is None and (remembered := _remembered_hosts(job, inventory)):
        found, errors = _ask_for(job, remembered)
        if found:
            return _the_one(job, found, newest)
        if errors:
            raise errors[0]
    hosts = inventory.select(hosts=host, everything=host is None)
    found, errors = _ask_for(job, hosts)
    if found:
        return _the_one(job, found, newest)
    if errors:
        raise errors[0]
    raise UsageError(f"no job {job!r} on {len(hosts)} host(s)", remedy="invoke jobs")


def send_code(client: AgentClient, tree: CodeTree) -> str:
    """The snapshot's digest on the host; only files that it does not have travel."""
    sizes = {entry.digest: entry.size for entry in tree.entries if entry.digest}
    missing = client.partial_blobs(sorted(tree.files), sizes)
    large = [digest for digest in missing if tree.files[digest].stat().st_size > SMALL_FILE]
    small = [digest for digest in missing if digest not in large]
    client.put_blobs((digest, tree.files[digest].read_bytes()) for digest in small)
    for digest in large:
        with tree.files[digest].open("rb") as file:
            client.put_blob(digest, file, offset=missing[digest])
    return client.put_manifest(tree.entries)


def follow_log(
    reconnect: Connect,
    job_id: str,
    *,
    offset: int = 0,
    on_break: OnBreak | None = None,
    on_cut: OnCut = _ignore_cut,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[LogChunk]:
    """Every byte of a job's log from ``offset`` on, once, until the job has ended.

    Where the job made its log shorter, ``on_cut`` is told, and the new log follows from its
    beginning.

    A broken link is reopened and the stream goes on at the very byte where it stopped;
    ``on_break`` is told the reason and the pause in seconds. Errors other than a lost, refused or
    silent connection are raised.
    """

    def read(client: AgentClient) -> LogChunk:
        return client.read_log(job_id, offset, limit=LOG_CHUNK, wait_s=LOG_WAIT_S)

    with PatientAgent(reconnect, on_break=on_break, sleep=sleep) as agent:
        while True:
            chunk = agent.call(read)
            if chunk.size < offset:
                on_cut(offset, chunk.size)
                offset = 0
                continue
            offset = chunk.offset + len(chunk.data)
            yield chunk
            if chunk.record.is_final and offset >= chunk.size:
                return


def follow_to_end(
    reconnect: Connect,
    job_id: str,
    write: Callable[[bytes], None],
    *,
    offset: int = 0,
    on_break: OnBreak | None = None,
    on_cut: OnCut = _ignore_cut,
) -> JobRecord:
    """Write every byte of the log once and return the ended job."""
    record: JobRecord | None = None
    for chunk in follow_log(reconnect, job_id, offset=offset, on_break=on_break, on_cut=on_cut):
        write(chunk.data)
        record = chunk.record
    assert record is not None
    return record


def copy_log(
    client: AgentClient,
    job_id: str,
    offset: int,
    write: Callable[[bytes], None],
    on_cut: OnCut = _ignore_cut,
) -> None:
    """Write what the log holds now, from ``offset`` on; what the program adds meanwhile is left
    out. ``on_cut``: see :func:`follow_log`."""
    end: int | None = None
    while end is None or offset < end:
        chunk = client.read_log(job_id, offset, limit=LOG_CHUNK)
        if chunk.size < offset:
            on_cut(offset, chunk.size)
            offset, end = 0, chunk.size
            continue
        end = chunk.size if end is None else end
        if not chunk.data:
            return
        write(chunk.data[: end - offset])
        offset += len(chunk.data)


def _job_spec(
    client: AgentClient, host: Host, request: Request, tree: CodeTree, image: str | None
) -> JobSpec:
    name = request.name or request.script.path.stem
    interpreter = "python" if image else host.python
    return JobSpec(
        job_id=new_job_id(name),
        name=name,
        argv=(interpreter, request.script.argument, *request.arguments),
        runtime=CONTAINER if image else PROCESS,
        snapshot=send_code(client, tree),
        directory=request.script.directory,
        env={**_mirror_environment(host, in_container=bool(image)), **request.environment},
        gpus=_gpus(client, request),
        image=image,
        mounts=host.container.mounts if image else (),
        shm_size=host.container.shm_size if image else None,
        created_at=time.time(),
        created_by=f"{getpass.getuser()}@{os.uname().nodename}",
    )


def _gpus(client: AgentClient, request: Request) -> int:
    if request.gpus == 0:
        return 0
    there = len(client.sample().gpus)
    if request.gpus is not None and request.gpus > there:
        raise UsageError(
            f"--gpus {request.gpus}: the host has {there}",
            host=client.host_name,
            remedy="ask for fewer, or choose another host",
        )
    return min(1, there) if request.gpus is None else request.gpus


def _image(host: Host, transport: Transport, runtime: str) -> str | None:
    """The image to run in, None for a plain process."""
    if runtime == PROCESS:
        return None
    running = _running_images(transport, runtime)
    if host.container.image and (runtime == CONTAINER or running):
        return host.container.image
    if running:
        return running[0]
    if runtime == AUTO:
        return None
    raise UsageError(
        "no container image is known for this host",
        host=host.name,
        remedy=f"invoke container.up --host {host.name}, or --runtime process",
    )


def _running_images(transport: Transport, runtime: str) -> tuple[str, ...]:
    """Of the user's own containers; a Docker that may not be asked means none, unless a container
    was demanded."""
    try:
        return engine.running_images(transport)
    except CommandFailed:
        if runtime == CONTAINER:
            raise
        return ()


def _remember(job_id: str, host: Host) -> None:
    write_private(_memory() / job_id, host.name.encode())


def _remembered_hosts(job: str, inventory: Inventory) -> tuple[Host, ...]:
    """The hosts that jobs of such an id were sent to from here, as far as they are still known."""
    names = {path.read_text() for path in _memory().glob(f"{glob.escape(job)}*")}
    known: list[Host] = []
    for name in sorted(names):
        with suppress(InventoryError):
            known.extend(inventory.select(hosts=name))
    return tuple(known)


def _ask_for(
    job: str, hosts: Sequence[Host]
) -> tuple[list[tuple[Host, JobRecord]], list[RigupError]]:
    results = on_each(hosts, lambda one: with_agent(one, lambda client: client.jobs()))
    found = [
        (one, record)
        for one, records, _ in results
        for record in records or ()
        if record.job_id.startswith(job)
    ]
    return found, [error for _, _, error in results if error is not None]


def _the_one(
    job: str, found: Sequence[tuple[Host, JobRecord]], newest: bool
) -> tuple[Host, JobRecord]:
    fitting = [pair for pair in found if pair[1].job_id == job] or found
    if len({record.job_id for _, record in fitting}) > 1 and not newest:
        names = ", ".join(record.job_id for _, record in found[:5])
        raise UsageError(f"{job!r} begins several jobs: {names}", remedy="type more of the id")
    chosen = max(fitting, key=lambda pair: pair[1].created_at)
    job_id = chosen[1].job_id
    claiming = [host.name for host, record in found if record.job_id == job_id]
    if len(claiming) > 1:
        raise UsageError(
            f"{' and '.join(claiming)} both say that they have {job_id}",
            remedy="name the right one with --host",
        )
    return chosen


def _memory() -> Path:
    return rigup_home() / "jobs-sent"


def _mirror_environment(host: Host, *, in_container: bool) -> dict[str, str]:
    """The inventory's mirrors; an image names its own authorities."""
    bundle = {} if in_container else mirrors.bundle_environment(host.mirrors)
    return {**mirrors.environment(host.mirrors), **bundle}
