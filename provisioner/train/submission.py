"""From the hosts that answered to a job on one of them: choice, image, code, queue."""

from __future__ import annotations

import getpass
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from inventory import Host
from provisioner import mirrors, show_code
from provisioner.agent.client import AgentClient
from provisioner.agent.patient import LOST
from provisioner.containers.image_supply import Supply, plan_supply
from provisioner.containers.shipping import image_id, send_image
from provisioner.errors import ConnectionLost, RigupError
from provisioner.jobs import remember
from provisioner.sync import CodeTree
from provisioner.text import one_line
from provisioner.train import launcher
from provisioner.train.placement import Choice, choices
from provisioner.train.probe import HostState, Probed, probe
from provisioner.train.request import Request, new_job_id
from remote_agent.protocol.job import CONTAINER, PROCESS, QUEUED, JobRecord, JobSpec

NEVER = "it was never provisioned"
SMALL_FILE = 1 << 20
SEND_ATTEMPTS = 3
NOTICE_POLLS, NOTICE_POLL_S = 20, 0.25
ARRIVING = ("receiving ", "unpacking ")
"""How the reason of a job begins whose image is on its way."""

Note = Callable[[str], None]


@dataclass
class Placement:
    """A job's place: the host that was chosen, connected, and how its image gets there. ``supply``
    is None for a process."""

    state: HostState
    choice: Choice
    request: Request
    supply: Supply | None

    @property
    def host(self) -> Host:
        return self.state.host

    @property
    def client(self) -> AgentClient:
        return self.state.client

    @property
    def runtime(self) -> str:
        return PROCESS if self.supply is None else CONTAINER

    @property
    def command(self) -> tuple[str, ...]:
        """What will run, word by word. Without torch there is no torchrun: a script that needs none
        is started once, with all its GPUs."""
        request = self.request
        return launcher.command(
            self.host.python if self.supply is None else "python",
            request.script.argument,
            request.arguments,
            gpus=self.choice.gpus,
            launcher=launcher.NONE if self.lacks_launcher else request.launcher,
            options=request.launcher_options,
        )

    @property
    def lacks_launcher(self) -> bool:
        without_torch = self.supply is None and "torch" not in self.state.facts
        return without_torch and self.request.launcher == launcher.AUTO

    def close(self) -> None:
        self.state.close()


def place(
    hosts: Sequence[Host], request: Request, note: Note, *, only_plan: bool = False
) -> Placement:
    """Choose the host where the job starts soonest, and see to it that its image can be had there.

    ``note`` hears which host and why, where there was a choice. Where the image cannot be had on
    the best host, the next one is tried. ``only_plan``: no image is made here for it. Raises
    RigupError, the only host's own where there is one.
    """
    only = len(hosts) == 1
    probed = probe(hosts, request, only=only)
    try:
        placement = _first_possible(probed, request, note, only_plan, only)
    except RigupError as error:
        if not probed.late:
            raise
        note(one_line(f"{error.host or hosts[0].name}: {error.message}; asking the slower hosts"))
        probed = probe(probed.late, request, waits_for_all=True)
        if not probed.states:
            raise
        placement = _first_possible(probed, request, note, only_plan, only)
    probed.close(but=placement.host.name)
    if not only or placement.choice.waits:
        note(f"{placement.host.name}: {placement.choice.reason}")
    for one in () if only else probed.candidates:
        reason = one.error.message if one.error else "" if one.provisioned else NEVER
        if reason:
            note(one_line(f"{one.name}: left aside: {reason}"))
    return placement


def _first_possible(
    probed: Probed, request: Request, note: Note, only_plan: bool, only: bool
) -> Placement:
    try:
        ranked = choices(probed.candidates, request.gpus, only=only)
        for choice in ranked[:-1]:
            with _noted(choice.name, note):
                return _possible(probed, choice, request, note, only_plan)
        return _possible(probed, ranked[-1], request, note, only_plan)
    except BaseException:
        probed.close()
        raise


@contextmanager
def _noted(name: str, note: Note) -> Iterator[None]:
    """An error is told, and the next host is tried."""
    try:
        yield
    except RigupError as error:
        note(one_line(f"{name}: {error.message}; trying another host"))


def _possible(
    probed: Probed, choice: Choice, request: Request, note: Note, only_plan: bool
) -> Placement:
    """Raises RigupError where the image cannot be had, or the launcher cannot start the script."""
    state = probed.states[choice.name]
    placement = Placement(state, choice, request, _supply(state, note, only_plan))
    placement.command  # noqa: B018
    return placement


def _supply(state: HostState, note: Note, only_plan: bool) -> Supply | None:
    if state.wanted is None:
        return None
    return plan_supply(
        state.host,
        state.transport,
        state.wanted,
        state.docker,
        progress=note,
        dry_run=only_plan,
    )


def submit(placement: Placement, tree: CodeTree, note: Note) -> JobRecord:
    """Send what the host lacks, start the job detached, and return once this machine is not needed
    any more.

    Remembers which host has the job. Where the image cannot be sent, no job is left behind. Raises
    UsageError, TransportError, AgentError, RigupError.
    """
    supply, client = placement.supply, placement.client
    for line in supply.said if supply and supply.plan else ():
        note(line)
    if placement.lacks_launcher and placement.choice.gpus > 1:
        note(f"{placement.host.python} has no torch: the script starts once, with all its GPUs")
    spec = _job_spec(placement, send_code(client, tree, note), tree.revision)
    if supply is not None and supply.context is not None:
        client.put_blobs([(hashlib.sha256(supply.context).hexdigest(), supply.context)])
    record = client.submit(spec)
    remember(record.job_id, placement.host)
    if supply is not None and supply.sends is not None:
        record = _send_image(placement, supply.sends, record, note)
    return record


def send_code(client: AgentClient, tree: CodeTree, note: Note = lambda text: None) -> str:
    """The snapshot's digest on the host; only files that it does not have travel."""
    missing = missing_code(client, tree)
    if 0 < len(missing) < len(tree.files):
        note(show_code.travels(tree, missing))
    large = [digest for digest in missing if tree.files[digest].stat().st_size > SMALL_FILE]
    small = [digest for digest in missing if digest not in large]
    client.put_blobs((digest, tree.files[digest].read_bytes()) for digest in small)
    for digest in large:
        with tree.files[digest].open("rb") as file:
            client.put_blob(digest, file, offset=missing[digest])
    return client.put_manifest(tree.entries)


def missing_code(client: AgentClient, tree: CodeTree) -> dict[str, int]:
    """Digests of files that the host lacks -> bytes of them that it has already."""
    sizes = {entry.digest: entry.size for entry in tree.entries if entry.digest}
    return client.partial_blobs(sorted(tree.files), sizes)


def _send_image(placement: Placement, reference: str, record: JobRecord, note: Note) -> JobRecord:
    def watchful(text: str) -> None:
        note(text)
        now = placement.client.job(record.job_id)
        if now.is_final:
            raise RigupError(
                f"{now.job_id} has {now.state} while its image was sent", host=placement.host.name
            )

    arriving = f"{placement.host.state_dir.removeprefix('~/')}/jobs/{record.job_id}/arriving"
    try:
        _send_patiently(placement, reference, arriving, watchful, note)
    except BaseException:
        _withdraw(placement, record.job_id, note)
        raise
    return _seen_by_host(placement, record)


def _send_patiently(
    placement: Placement, reference: str, arriving: str, progress: Note, note: Note
) -> None:
    """A host that has all bytes completes the image although the link broke then."""
    state = placement.state
    for attempt in range(1, SEND_ATTEMPTS + 1):
        try:
            send_image(state.transport, reference, progress, arriving)
            return
        except ConnectionLost as error:
            if attempt == SEND_ATTEMPTS:
                raise
            note(one_line(f"{placement.host.name}: {error.message}; connecting again"))
            state.reconnect()
            if image_id(state.transport, reference) is not None:
                return


def _seen_by_host(
    placement: Placement, record: JobRecord, sleep: Callable[[float], None] = time.sleep
) -> JobRecord:
    """The job, once the host has noticed that its image is there, which takes a moment. As it was
    where the link breaks now: the host needs us no more."""
    with suppress(*LOST):
        for _ in range(NOTICE_POLLS):
            record = placement.client.job(record.job_id)
            if record.state != QUEUED or not record.waiting_for.startswith(ARRIVING):
                break
            sleep(NOTICE_POLL_S)
    return record


def _withdraw(placement: Placement, job_id: str, note: Note) -> None:
    """A job whose image will never come."""
    for attempt in (1, 2):
        try:
            placement.client.stop(job_id, grace_s=0)
            placement.client.remove(job_id)
        except LOST:
            if attempt == 1:
                with suppress(RigupError):
                    placement.state.reconnect()
        except RigupError:
            break
        else:
            note(f"{job_id} was withdrawn")
            return
    note(f"{job_id} could not be withdrawn; end it: invoke stop {job_id}")


def _job_spec(placement: Placement, snapshot: str, revision: str | None) -> JobSpec:
    request, host, supply = placement.request, placement.host, placement.supply
    name = request.name or request.script.path.stem
    return JobSpec(
        job_id=new_job_id(name),
        name=name,
        argv=placement.command,
        runtime=placement.runtime,
        snapshot=snapshot,
        directory=request.script.directory,
        env={**_mirror_environment(host, in_container=supply is not None), **request.environment},
        gpus=placement.choice.gpus,
        gpu_indices=placement.choice.indices,
        image=supply.image if supply else None,
        image_plan=supply.plan if supply else None,
        mounts=host.container.mounts if supply else (),
        shm_size=host.container.shm_size if supply else None,
        created_at=time.time(),
        created_by=f"{getpass.getuser()}@{os.uname().nodename}",
        revision=revision or "",
    )


def _mirror_environment(host: Host, *, in_container: bool) -> dict[str, str]:
    """The inventory's mirrors; an image names its own authorities."""
    bundle = {} if in_container else mirrors.bundle_environment(host.mirrors)
    return {**mirrors.environment(host.mirrors), **bundle}
