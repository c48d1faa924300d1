"""A fresh install: rigup, and a shell script with the same commands, on equal new lab hosts."""

from __future__ import annotations

import base64
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from bench.provision.contenders import PEERS
from bench.provision.machine import described
from bench.provision.measure import Run, run
from bench.provision.programs import install_rigup
from bench.provision.state import ssh_words
from bench.provision.stats import comparison, rotated
from inventory import Host, load_inventory
from provisioner import lab
from provisioner.agent.boot_unit import boot_unit
from provisioner.agent.bundle import build_bundle

DISTROS = ("debian12", "debian13")
DOCKER_PACKAGES = {"debian12": "docker.io", "debian13": "docker.io docker-cli"}
DRIVER_BRANCH = "580"
CDI = {"debian13": ', "features": {"cdi": true}'}
"""Docker 25 and later give GPUs by CDI; Debian 12's is older."""


def main(work: Path, hosts: int, rounds: int) -> None:
    """Every run gets hosts of its own, made for it. Raw figures: ``fresh.json`` in ``work``."""
    rigup, versions = install_rigup(work)
    home = work / "fresh"
    os.environ["RIGUP_HOME"] = str(home)
    runs: dict[str, list[Run]] = {"rigup": [], "shell script": []}
    for number in range(rounds + 1):
        for name in rotated(list(runs), number):
            with fresh_lab(home, hosts) as inventory:
                found = list(load_inventory(inventory).hosts.values())
                done = by_rigup(rigup, inventory) if name == "rigup" else by_shell(found)
                left = _left_to_do(rigup, inventory)
            print(f"{name}: {done.seconds:.1f} s; left to do: {left or 'nothing'}", file=sys.stderr)
            if number:  # the first round warms the caches of the mirrors
                runs[name].append(done)
    print(f"{hosts} fresh hosts, {rounds} rounds; {described()}; {', '.join(versions)}\n")
    print(comparison({name: [one.seconds for one in done] for name, done in runs.items()}, "rigup"))
    figures = {name: [vars(one) for one in done] for name, done in runs.items()}
    (work / "fresh.json").write_text(json.dumps(figures, indent=1))


@contextmanager
def fresh_lab(home: Path, count: int) -> Iterator[Path]:
    """New hosts, and nothing of them afterwards."""
    lab.down(home)
    try:
        yield lab.up(count, distros=DISTROS, home=home).inventory
    finally:
        lab.down(home)


def by_rigup(rigup: Path, inventory: Path) -> Run:
    done = run((str(rigup), "provision", "--all", "--inventory", str(inventory)))
    if done.exit_code:
        sys.exit(f"rigup failed:\n{done.last_words()}")
    return done


def by_shell(hosts: Sequence[Host]) -> Run:
    """One ssh per host, all at once; the whole as one run."""
    started = time.perf_counter()
    with ThreadPoolExecutor(len(hosts)) as pool:
        done = list(pool.map(_install, hosts))
    seconds = time.perf_counter() - started
    for one in done:
        if one.exit_code:
            sys.exit(f"the shell script failed:\n{one.last_words()}")
    slowest = max(done, key=lambda one: one.seconds)
    return Run(**{**vars(slowest), "seconds": seconds, "cpu_s": sum(one.cpu_s for one in done)})


def _install(host: Host) -> Run:
    script = _assignments(host) + (PEERS / "install.sh").read_text("utf-8")
    return run([*ssh_words(host), "sudo", "sh", "-s"], stdin=script.encode())


def _assignments(host: Host) -> str:
    bundle, unit = build_bundle(), boot_unit(host.state_dir)
    prove = resources.files("provisioner.verification").joinpath("prove.sh")
    values = {
        "LOGIN": host.user,
        "DRIVER_URI": host.mirrors.nvidia.uri,
        "TOOLKIT_URI": host.mirrors.container_toolkit.uri,
        "KEY_URL": host.mirrors.nvidia.key_url,
        "DRIVER_BRANCH": DRIVER_BRANCH,
        "DOCKER_PACKAGES": DOCKER_PACKAGES[host.labels["distro"]],
        "AGENT": bundle.digest,
        "CDI": CDI.get(host.labels["distro"], ""),
        "BOOT_UNIT": unit.content,
        "PROVE": prove.read_text("utf-8"),
        "AGENT_BASE64": base64.b64encode(bundle.data).decode(),
    }
    return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())


def _left_to_do(rigup: Path, inventory: Path) -> str:
    """What `provision --check` would still change: how far the two end states differ."""
    words = (str(rigup), "provision", "--check", "--all", "--json", "--inventory", str(inventory))
    steps = [step for report in json.loads(run(words).stdout) for step in report["steps"]]
    return "; ".join(
        sorted({f"{step['step']}: {step['reason']}" for step in steps if step["status"] != "ok"})
    )
