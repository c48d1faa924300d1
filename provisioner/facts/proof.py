"""What an earlier run has proven on this host, and since when its Docker engine runs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from provisioner.facts.base import Fact, Output, key_values

PATH = "/var/lib/rigup/proof.json"
MOST_PROOFS = 16
LONGEST_TEXT = 300
MOST_GPUS = 64
GPU_UUID = re.compile(r"GPU-[\w-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Proof:
    """One thing that was shown to work, or, not ``proven``, one that could not be shown and why.

    ``simulated``: on practice GPUs, which proves plumbing and nothing about a GPU.
    ``recorded_at``: an earlier run showed it at that moment (ISO 8601, UTC); None: it was just now.
    """

    text: str
    simulated: bool = False
    proven: bool = True
    recorded_at: str | None = None


@dataclass(frozen=True)
class ProofRecord:
    """``fingerprint`` stands for everything that the proofs depend on. ``gpus``: UUIDs of the GPUs
    that the host had; empty also in a record of an older version."""

    fingerprint: str
    proofs: tuple[Proof, ...]
    gpus: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, fingerprint: str, proofs: Sequence[Proof], at: str, gpus: Sequence[str] = ()
    ) -> ProofRecord:
        known = tuple(replace(proof, recorded_at=at) for proof in proofs)
        return cls(fingerprint, known, tuple(gpus))

    def to_json(self) -> str:
        proofs = [asdict(proof) for proof in self.proofs]
        record = {"fingerprint": self.fingerprint, "proofs": proofs, "gpus": self.gpus}
        return json.dumps(record, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ProofRecord:
        """Raises ValueError for anything else than what :meth:`to_json` makes."""
        value: Any = json.loads(text)
        try:
            proofs = tuple(_proof(**item) for item in value["proofs"])
            fingerprint, gpus = value["fingerprint"], value.get("gpus", [])
        except (LookupError, TypeError) as error:
            raise ValueError(f"no record of proofs: {text[:80]!r}") from error
        if not isinstance(fingerprint, str) or not 0 < len(proofs) <= MOST_PROOFS:
            raise ValueError("no record of proofs")
        if not isinstance(gpus, list) or len(gpus) > MOST_GPUS:
            raise ValueError("no record of proofs")
        if not all(isinstance(uuid, str) and GPU_UUID.fullmatch(uuid) for uuid in gpus):
            raise ValueError("no record of proofs")
        return cls(fingerprint, proofs, tuple(gpus))


def _proof(text: object, simulated: object, proven: object, recorded_at: object) -> Proof:
    told = isinstance(text, str) and len(text) <= LONGEST_TEXT and isinstance(recorded_at, str)
    if not told or not isinstance(simulated, bool) or not isinstance(proven, bool):
        raise TypeError("another shape")
    return Proof(str(text), simulated, proven, str(recorded_at))


@dataclass(frozen=True)
class ProofFacts:
    """``record`` is None where there is none, or one that says nothing. ``engine_started`` changes
    with every start of the Docker daemon; empty where that cannot be told. ``runtime_files``: size
    and times of every program that starts a container, and of systemd. ``mig``: how the driver says
    that its GPUs are split.
    """

    record: ProofRecord | None
    engine_started: str = ""
    runtime_files: str = ""
    mig: str = ""


RUNTIME_PROGRAMS = (
    *("runc", "crun", "containerd", "containerd-shim-runc-v2", "dockerd", "docker-init"),
    *("nvidia-container-runtime", "nvidia-container-runtime-hook", "nvidia-container-cli"),
    *("nvidia-ctk", "nvidia-cdi-hook"),
)
"""An upgrade of one of these may take the GPUs from containers, whatever package it is in."""

LIBRARIES = (
    "/usr/lib/*/libnvidia-container.so.1",
    "/usr/lib64/libnvidia-container.so.1",
    "/usr/local/lib/libnvidia-container.so.1",
)
"""Where there is no package of it, its version is in no list."""

SCRIPT = f"""
[ -r /run/docker.pid ] && echo "engine=$(stat -c '%Y %i' /run/docker.pid) $(cat /run/docker.pid)"
for name in {" ".join(RUNTIME_PROGRAMS)}; do
  file=$(command -v "$name") || continue
  printf 'file=%s\n' "$(stat -L -c '%n %s %Y %Z' "$file")"
done
for file in /lib/systemd/systemd /usr/lib/systemd/systemd; do
  [ -e $file ] && printf 'file=%s\n' "$(stat -L -c '%n %s %Y %Z' $file)" && break
done
printf 'file=cgroup %s\n' "$(stat -f -c %T /sys/fs/cgroup)"
file=/etc/containerd/config.toml
[ -r $file ] && printf 'file=%s %s\n' $file "$(sha256sum < $file | cut -c -64)"
for file in {" ".join(LIBRARIES)}; do
  [ -e "$file" ] && printf 'file=%s\n' "$(stat -L -c '%n %s %Y' "$file")"
done
command -v nvidia-smi >/dev/null && limited nvidia-smi --query-gpu=uuid,mig.mode.current \
  --format=csv,noheader 2>/dev/null | sort | sed 's/^/mig=/'
command -v nvidia-smi >/dev/null && limited nvidia-smi -L 2>/dev/null | sed -n 's/^ *MIG/mig=MIG/p'
[ -r {PATH} ] && {{ printf 'record='; head -c 65536 {PATH} | tr '\\n' ' '; echo; }}
exit 0
"""


def parse(output: Output) -> ProofFacts:
    values = key_values(output.text)
    text = next(
        (line[len("record=") :] for line in output.text.splitlines() if line.startswith("record=")),
        "",
    )
    try:
        record = ProofRecord.from_json(text)
    except (ValueError, RecursionError):
        record = None
    return ProofFacts(
        record, values.get("engine", ""), _lines(output.text, "file="), _lines(output.text, "mig=")
    )


def _lines(text: str, start: str) -> str:
    """The rest of every line that begins so."""
    lines = (line[len(start) :].strip() for line in text.splitlines() if line.startswith(start))
    return "\n".join(lines)


PROOF = Fact("proof", SCRIPT, parse, slow=True)
