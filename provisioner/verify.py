"""Proof after provisioning: evidence for what matters, shown anew or known from before.

One script makes a container from the host's own files (no registry, no download) and runs it with
all GPUs. It must list exactly the host's GPUs, still list them after a real ``systemctl
daemon-reload``, and multiply matrices on every one of them with the right result. What was proven
is recorded on the host under a fingerprint of everything it depends on, so an unchanged host is
not proven again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import PurePosixPath

from provisioner.command import Command
from provisioner.errors import StepFailed, SudoError
from provisioner.facts import DOCKER, GPU, PROOF, Facts, FactUnreadable
from provisioner.facts.gpu import Gpu, GpuFacts
from provisioner.facts.proof import PATH, Proof, ProofRecord
from provisioner.hardware import LOST_REMEDY, VANISHED_REMEDY, unanswering, vanished
from provisioner.transport.base import Transport
from provisioner.transport.upload import put_command
from provisioner.verification import container, judgement
from provisioner.verification.container import Seen
from provisioner.verification.record import fingerprint, recorded

__all__ = ["Proof", "require_all_gpus", "verify"]


def verify(
    transport: Transport,
    facts: Facts,
    *,
    force: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> tuple[Proof, ...]:
    """The proofs: those that an earlier run recorded for this very state, unless ``force``, else
    shown now and recorded. Raises StepFailed or TransportError when one fails, and StepFailed for a
    GPU that the driver does not list, whatever was recorded."""
    require_all_gpus(transport.host_name, facts[GPU])
    if not force:
        _require_known_gpus(transport.host_name, facts)
    if not force:
        with suppress(FactUnreadable):
            if known := recorded(facts):
                return known
    proofs = _shown(transport, facts)
    _record(transport, facts, proofs, now().isoformat(timespec="seconds"))
    return proofs


def require_all_gpus(host: str, gpu: GpuFacts) -> None:
    """Raises StepFailed when the driver does not list every GPU that it should serve."""
    missing = unanswering(gpu)
    if not missing:
        return
    addresses = ", ".join(one.address for one in missing)
    raise StepFailed(
        f"the driver lists {len(gpu.gpus)} GPU(s), and on the bus are more that do not answer: "
        f"{addresses}",
        host=host,
        remedy=LOST_REMEDY,
    )


def _require_known_gpus(host: str, facts: Facts) -> None:
    """Raises StepFailed when fewer GPUs are on the bus than an earlier run has verified."""
    with suppress(FactUnreadable):
        record = facts[PROOF].record
        missing = vanished(facts[GPU], record.gpus if record else ())
        if missing:
            raise StepFailed(
                f"GPU(s) that an earlier run has verified are no longer on the bus: "
                f"{', '.join(missing)}",
                host=host,
                remedy=f"{VANISHED_REMEDY}; if they were taken out on purpose, invoke provision "
                f"--host {host} --verify takes the host as it is",
            )


def _shown(transport: Transport, facts: Facts) -> tuple[Proof, ...]:
    gpu, host = facts[GPU], transport.host_name
    driver = judgement.driver(host, gpu)
    seen = _run(transport, gpu.gpus)
    if not gpu.gpus:
        version = facts[DOCKER].server_version
        return (Proof(f"Docker {version} runs a container (no GPU on this host)"),)
    return (*driver, *judgement.container(host, gpu.gpus, seen))


def _run(transport: Transport, gpus: tuple[Gpu, ...]) -> Seen:
    """As root, for systemd's reload; without, where we may not become root but may use Docker."""
    real = bool(gpus) and not any(gpu.simulated for gpu in gpus)
    try:
        command = container.command(gpus=bool(gpus), reload=bool(gpus), product=real, sudo=True)
        return _seen(transport, command)
    except SudoError:
        command = container.command(gpus=bool(gpus), reload=False, product=real, sudo=False)
        return _seen(transport, command)


def _seen(transport: Transport, command: Command) -> Seen:
    result = transport.run(command)
    if result.ok:
        return container.parse(result.text)
    raise StepFailed(
        f"no container could be run (status {result.exit_code}): {result.tail}",
        host=transport.host_name,
        remedy="invoke doctor --host " + transport.host_name,
    )


def _record(transport: Transport, facts: Facts, proofs: tuple[Proof, ...], at: str) -> None:
    """Where that cannot be done, or something could not be shown this time (a GPU was in use), the
    next run proves again."""
    if any(not proof.proven and not proof.simulated for proof in proofs):
        return
    with suppress(FactUnreadable, SudoError):
        uuids = [one.uuid for one in facts[GPU].gpus]
        text = ProofRecord.of(fingerprint(facts), proofs, at, uuids).to_json()
        transport.run(put_command(text.encode(), PurePosixPath(PATH), mode=0o644, sudo=True))
