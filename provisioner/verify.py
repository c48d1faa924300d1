"""Proof after provisioning: a container on the host sees exactly the host's GPUs.

The image is made on the host from the host's own shell and libraries, so the proof needs no
registry and no download.
"""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.actions import run_checked
from provisioner.command import Command
from provisioner.errors import StepFailed
from provisioner.facts import DOCKER, GPU, Facts
from provisioner.transport.base import Transport

IMAGE = "rigup-verify:1"
TIMEOUT_S = 180.0

BUILD_IMAGE = r"""
set -eu
image=$1
docker image inspect "$image" >/dev/null 2>&1 && exit 0
root=$(mktemp -d)
trap 'rm -rf -- "$root"' EXIT
mkdir -p "$root/usr/bin" "$root/etc" "$root/proc" "$root/dev" "$root/tmp" "$root/sys"
for top in bin sbin lib lib64; do
  if [ -L "/$top" ]; then mkdir -p "$root/usr/$top"; ln -s "usr/$top" "$root/$top"; fi
done
take() {
  file=$(readlink -f "$1")
  mkdir -p "$root$(dirname "$1")" "$root$(dirname "$file")"
  [ -e "$root$file" ] || cp "$file" "$root$file"
  [ -e "$root$1" ] || ln -s "$file" "$root$1"
}
shell=$(command -v sh)
take "$shell"
[ -e "$root/bin/sh" ] || take /bin/sh
ldd "$(readlink -f "$shell")" | grep -Eo '/[^ ]+' | while read -r library; do take "$library"; done
libc=$(ldd "$(readlink -f "$shell")" | grep -Eo '/[^ ]+/libc\.so\.6' | head -n 1)
for name in libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1; do
  if [ -e "$(dirname "$libc")/$name" ]; then take "$(dirname "$libc")/$name"; fi
done
tar -C "$root" -c . | docker import - "$image" >/dev/null
"""


@dataclass(frozen=True)
class Proof:
    """One thing that was shown to work. ``simulated``: on practice GPUs, which proves plumbing
    and nothing about a GPU."""

    text: str
    simulated: bool = False


def verify(transport: Transport, facts: Facts) -> tuple[Proof, ...]:
    """Run the proofs. Raises StepFailed, CommandFailed or TransportError when one fails."""
    run_checked(transport, Command.sh(BUILD_IMAGE, IMAGE, sudo=True, timeout_s=TIMEOUT_S))
    gpus = facts[GPU].gpus
    if not gpus:
        return (_plain_container(transport, facts),)
    expected = {gpu.uuid for gpu in gpus}
    seen = _container_gpus(transport)
    if seen != expected:
        raise StepFailed(
            f"a container sees GPUs {sorted(seen)}, the host has {sorted(expected)}",
            host=transport.host_name,
            remedy="nvidia-ctk cdi list; journalctl -u docker; provision again",
        )
    simulated = any(gpu.simulated for gpu in gpus)
    module = facts[GPU].module_version
    return (
        Proof(f"driver module {module} is loaded, nvidia-smi answers", simulated),
        Proof(f"a container sees exactly the host's {len(gpus)} GPU(s)", simulated),
    )


def _plain_container(transport: Transport, facts: Facts) -> Proof:
    run_checked(transport, _docker_run("true"))
    return Proof(f"Docker {facts[DOCKER].server_version} runs a container (no GPU on this host)")


def _container_gpus(transport: Transport) -> set[str]:
    result = run_checked(transport, _docker_run("nvidia-smi -L", "--gpus", "all"))
    return {
        part.rstrip(")") for line in result.text.splitlines() for part in line.split("UUID: ")[1:]
    }


def _docker_run(script: str, *options: str) -> Command:
    words = ("docker", "run", "--rm", "--network", "none", *options, IMAGE, "/bin/sh", "-c", script)
    return Command.of(*words, sudo=True, timeout_s=TIMEOUT_S)
