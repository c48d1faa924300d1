"""What the hosts that a job could go to tell about themselves, all asked at once.

Each host costs one connection, which the job is then sent over: the agent tells GPUs and jobs, a
short script tells Docker, images and Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from inventory import Host
from provisioner import show
from provisioner.agent.client import AgentClient
from provisioner.command import Command
from provisioner.containers.docker_look import NOT_INSTALLED
from provisioner.containers.facade import HostGpus
from provisioner.containers.image_supply import (
    DockerLook,
    WantedImage,
    look_script,
    parse_look,
    wanted_image,
)
from provisioner.errors import BlockedError, CommandFailed, RigupError, UsageError
from provisioner.facts import GPU, gather
from provisioner.jobs import agent_over, longest_s
from provisioner.parallel import Background, Patience, as_rigup_error, until_enough
from provisioner.train.placement import Candidate, GpuState, choices
from provisioner.train.request import AUTO, Request
from provisioner.transport.base import Transport
from provisioner.transport.ssh import SshTransport
from remote_agent.protocol.job import CONTAINER, PROCESS, QUEUED, JobRecord
from remote_agent.protocol.sample import GpuSample, Sample

LATECOMERS_S = 1.5
"""Once a host is known on which the job starts at once, the others get so much longer."""
LOOK_TIMEOUT_S = 65.0
"""The script's own limits add up to a minute."""
LOOK_BYTES = 2 << 20
"""Some 20,000 images."""
LOOK = r"""
python=$1
shift
for path in /var/lib/rigup/proof.json /var/lib/rigup/journal.jsonl; do
  if [ -e "$path" ]; then echo 'host|provisioned'; break; fi
done
for device in /sys/bus/pci/devices/*; do
  case $(cat "$device/vendor" "$device/class" 2>/dev/null | tr '\n' ' ') in
    '0x10de 0x0300'*|'0x10de 0x0302'*) echo 'host|nvidia'; break ;;
  esac
done
if command -v "$python" >/dev/null 2>&1; then
  echo 'host|python'
  if "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' \
    >/dev/null 2>&1; then echo 'host|torch'; fi
fi
"""


@dataclass
class HostState:
    """One host that answered; ``close`` ends its connection. ``wanted``: the image of a job in a
    container, None for a process. ``is_able``: the job can run there as the host is now."""

    host: Host
    transport: Transport
    client: AgentClient
    sample: Sample
    jobs: tuple[JobRecord, ...]
    docker: DockerLook
    facts: frozenset[str]
    wanted: WantedImage | None = None
    is_able: bool = True

    @property
    def is_provisioned(self) -> bool:
        """Docker that works counts: then somebody else has set the host up."""
        return "provisioned" in self.facts or self.docker.usable

    @property
    def has_image(self) -> bool:
        return self.wanted is None or self.docker.has(self.wanted.reference)

    def close(self) -> None:
        self.client.close()

    def reconnect(self) -> None:
        """A new session with the agent in place of one whose link broke. Raises RigupError."""
        self.client.on_close = None
        with suppress(RigupError):
            self.client.close()
        self.client = agent_over(self.transport, self.host)
        self.client.on_close = self.transport.close


@dataclass
class Probed:
    """The candidates in the hosts' order, and the connections of those that answered. ``late``:
    hosts that were not waited for."""

    candidates: tuple[Candidate, ...]
    states: dict[str, HostState] = field(default_factory=dict)
    late: tuple[Host, ...] = ()

    def close(self, but: str | None = None) -> None:
        for name, state in self.states.items():
            if name != but:
                with suppress(RigupError):
                    state.close()


def probe(
    hosts: Sequence[Host], request: Request, *, only: bool = False, waits_for_all: bool = False
) -> Probed:
    """Ask all hosts. Never raises a host's error: its candidate carries it.

    ``only``: see :func:`~provisioner.train.placement.choices`. ``waits_for_all``: else no longer
    than it takes to know a host on which the job starts at once, and LATECOMERS_S.
    """

    def work(host: Host) -> tuple[Candidate, HostState | None]:
        try:
            state = look_at(host, request)
            return candidate_of(state, request, only=only), state
        except Exception as error:
            return Candidate(host.name, error=as_rigup_error(error, host.name)), None

    def is_enough(done: Sequence[tuple[Candidate, HostState | None]]) -> bool:
        if waits_for_all:
            return False
        with suppress(RigupError):
            best = choices([candidate for candidate, _ in done], request.gpus, only=only)[0]
            return not best.waits
        return False

    def discard(late: tuple[Candidate, HostState | None]) -> None:
        with suppress(RigupError):
            if late[1] is not None:
                late[1].close()

    patience = Patience(is_enough, LATECOMERS_S, discard)
    outcomes = until_enough(hosts, work, patience, limit_s=longest_s)
    candidates = tuple(
        Candidate(host.name, error=_late(host)) if outcome is None else outcome[0]
        for host, outcome in zip(hosts, outcomes, strict=True)
    )
    states = {
        host.name: outcome[1]
        for host, outcome in zip(hosts, outcomes, strict=True)
        if outcome is not None and outcome[1] is not None
    }
    late = [host for host, one in zip(hosts, outcomes, strict=True) if one is None]
    return Probed(candidates, states, tuple(late))


def look_at(host: Host, request: Request) -> HostState:
    """Raises RigupError: not reachable, no agent, or nothing that could run the job."""
    transport = SshTransport(host)
    client: AgentClient | None = None
    try:
        transport.connect()
        look = Background(lambda: _look(host, transport))
        client = agent_over(transport, host)
        client.on_close = transport.close
        state = _read(host, transport, client, look)
        _choose_runtime(state, request)
        return state
    except BaseException:
        (client or transport).close()
        raise


def candidate_of(state: HostState, request: Request, *, only: bool = False) -> Candidate:
    """What the choice needs to know of the host. An ``only`` one need not be provisioned where the
    job can run all the same."""
    queued = [job for job in state.jobs if job.spec.gpus and not job.is_final and not _waits(job)]
    return Candidate(
        state.host.name,
        tuple(_gpu_state(gpu) for gpu in state.sample.gpus),
        provisioned=state.is_provisioned
        or (state.is_able and (only or request.runtime == PROCESS)),
        jobs_ahead=len(queued),
        has_queue=any(job.state == QUEUED for job in queued),
        has_image=state.has_image,
    )


def _waits(job: JobRecord) -> bool:
    """For its image: then it is in nobody's way."""
    return job.spec.image_plan is not None and show.waits_for_image(job)


def host_gpus(state: HostState) -> HostGpus:
    """What chooses an image. Real GPUs are asked for their compute capability. Raises
    RigupError."""
    gpus = state.sample.gpus
    if not gpus or any(gpu.simulated for gpu in gpus):
        return HostGpus(
            driver_version=state.sample.driver_version,
            compute_capabilities=("simulated",) * bool(gpus),
            simulated=bool(gpus),
        )
    found = gather(state.transport, (GPU,))[GPU]
    return HostGpus(
        driver_version=found.driver_version,
        compute_capabilities=tuple(
            gpu.compute_capability for gpu in found.gpus if gpu.compute_capability
        ),
    )


def _read(
    host: Host, transport: Transport, client: AgentClient, look: Background[str]
) -> HostState:
    jobs, sample = client.jobs(), client.sample()
    text = look.result()
    lines = text.splitlines()
    facts = frozenset(line.removeprefix("host|") for line in lines if line.startswith("host|"))
    docker = parse_look(text, filter(None, [host.container.image]))
    return HostState(host, transport, client, sample, jobs, docker, facts)


def _look(host: Host, transport: Transport) -> str:
    """What the script printed, while the agent starts."""
    command = Command.sh(
        LOOK + look_script(),
        host.python,
        timeout_s=LOOK_TIMEOUT_S,
        max_output_bytes=LOOK_BYTES,
    )
    answer = transport.run(command)
    if not answer.ok:
        raise CommandFailed(answer, host=host.name)
    return answer.text


def _choose_runtime(state: HostState, request: Request) -> None:
    """Set ``wanted``. Raises RigupError where nothing there can run the job."""
    if request.gpus.needs_gpu and not state.sample.gpus and "nvidia" in state.facts:
        if not state.is_provisioned:
            state.is_able = False
            return
        raise BlockedError(
            "it has an NVIDIA GPU and no driver that answers for it",
            host=state.host.name,
            remedy=f"invoke provision --host {state.host.name}; --gpus 0 trains on the CPU",
        )
    if _is_for_container(state, request):
        if not state.docker.usable:
            raise BlockedError(
                f"--runtime container: {state.docker.problem}",
                host=state.host.name,
                remedy=f"invoke provision --host {state.host.name}",
            )
        state.wanted = wanted_image(state.host, host_gpus(state), state.docker.running)
        return
    if request.needs_torch and "torch" not in state.facts:
        if request.runtime == AUTO and not state.is_provisioned:
            state.is_able = False
            return
        raise _torch_is_missing(state)
    if "python" not in state.facts:
        raise UsageError(
            f"{state.host.python} is not there",
            host=state.host.name,
            remedy="python: in the inventory names the interpreter",
        )


def _is_for_container(state: HostState, request: Request) -> bool:
    """A container where there is Docker; on a host without a GPU, whose own Python may do, only
    where it is set up for that or nothing else works."""
    if request.runtime != AUTO:
        return request.runtime == CONTAINER
    if not state.docker.usable:
        if state.sample.gpus and state.docker.problem != NOT_INSTALLED:
            raise BlockedError(
                state.docker.problem,
                host=state.host.name,
                remedy=f"invoke doctor --host {state.host.name}; or --runtime process, in its own "
                "Python",
            )
        return False
    if state.sample.gpus or state.host.container.image or state.docker.running:
        return True
    return request.needs_torch and "torch" not in state.facts


def _torch_is_missing(state: HostState) -> RigupError:
    host = state.host.name
    others = "--runtime container" if state.docker.usable else f"invoke provision --host {host}"
    return UsageError(
        f"torch is missing on {host}",
        host=host,
        remedy=f"{others}, or python: in the inventory names an interpreter that has it",
    )


def _gpu_state(gpu: GpuSample) -> GpuState:
    """As far as can be seen from here; the host's own queue decides."""
    is_free = not gpu.defect and gpu.job_id is None and not gpu.computing
    return GpuState(gpu.index, gpu.name, gpu.memory_total, is_free, gpu.defect)


def _late(host: Host) -> RigupError:
    return RigupError("did not answer in time", host=host.name)
