"""From what was seen to proofs, or to a failure that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.errors import StepFailed
from provisioner.facts.gpu import Gpu, GpuFacts
from provisioner.facts.proof import Proof
from provisioner.verification.container import Seen

LOST = (
    "Docker must give GPUs through CDI, or be driven with cgroupfs; see NVIDIA's container toolkit "
    "troubleshooting, 'Containers losing access to GPUs'; provision again, then recreate containers"
)


def driver(host: str, gpu: GpuFacts) -> tuple[Proof, ...]:
    """The loaded module and the user space are one version, and nvidia-smi lists GPUs. Empty where
    the host has none."""
    if not gpu.gpus:
        return ()
    versions = {
        "kernel module": gpu.module_version,
        "user space": gpu.library_version,
        "nvidia-smi": gpu.driver_version,
    }
    known = {name: version for name, version in versions.items() if version is not None}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{name} {version}" for name, version in known.items())
        remedy = "reboot the host; if that does not help, install the driver again"
        raise StepFailed(f"the driver is of several versions: {told}", host=host, remedy=remedy)
    version = next(iter(known.values()), None)
    same = " equals user space" if {"kernel module", "user space"} <= set(known) else " is loaded"
    text = f"driver module {version}{same}, nvidia-smi answers"
    return (Proof(text, any(one.simulated for one in gpu.gpus)),)


def container(host: str, gpus: Sequence[Gpu], seen: Seen) -> tuple[Proof, ...]:
    """What the container shows. Raises StepFailed when it shows something else than it should."""
    expected = frozenset(gpu.uuid for gpu in gpus)
    if seen.before != expected:
        raise StepFailed(
            f"a container sees GPUs {sorted(seen.before)}, the host has {sorted(expected)}",
            host=host,
            remedy="nvidia-ctk cdi list; journalctl -u docker; provision again",
        )
    if seen.after != expected:
        after = "a systemctl daemon-reload" if seen.reloaded else "a moment"
        raise StepFailed(
            f"a container lost its GPUs after {after}: it sees {sorted(seen.after)} of "
            f"{sorted(expected)} and says {seen.answers[:300]!r}",
            host=host,
            remedy=LOST,
        )
    simulated = any(gpu.simulated for gpu in gpus)
    return (
        Proof(f"a container sees exactly the host's {len(gpus)} GPU(s)", simulated),
        _reload(seen, simulated),
        _products(host, expected, seen, simulated),
    )


def _reload(seen: Seen, simulated: bool) -> Proof:
    if not seen.reloaded:
        return Proof("GPUs after systemctl daemon-reload (needs root)", simulated, proven=False)
    return Proof("the container still has them after systemctl daemon-reload", simulated)


def _products(host: str, expected: frozenset[str], seen: Seen, simulated: bool) -> Proof:
    what = "a CUDA matrix product"
    if simulated:
        return Proof(f"{what} (simulated GPUs)", simulated, proven=False)
    if seen.products == ("no python3",):
        return Proof(f"{what} (no python3 on the host)", proven=False)
    right, busy = _named(seen.products, "right"), _named(seen.products, "busy")
    wrong = [line for line in seen.products if not line.startswith(("right ", "busy "))]
    missing = frozenset[str]() if seen.mig else expected - right - busy
    if wrong or missing or not right | busy:
        told = "; ".join([*wrong, *(f"no answer of {uuid}" for uuid in sorted(missing))])
        raise StepFailed(
            f"{what} failed: {told[:500] or 'CUDA sees no device'}",
            host=host,
            remedy="invoke doctor --host " + host,
        )
    if busy:
        return Proof(f"{what} on {', '.join(sorted(busy))} (in use by others)", proven=False)
    return Proof(f"{what} gives the right numbers on {len(right)} CUDA device(s)")


def _named(lines: Sequence[str], kind: str) -> frozenset[str]:
    return frozenset(line.split()[1] for line in lines if line.startswith(f"{kind} GPU-"))
