"""Many hosts: how wall time, CPU time, memory and threads of one rigup process grow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench.provision.contenders import rigup_is_unchanged
from bench.provision.machine import described
from bench.provision.measure import Run, run
from bench.provision.programs import install_rigup
from bench.provision.stats import table
from inventory import Host, load_inventory
from provisioner.home import known_hosts_file

COUNTS = (1, 4, 8, 16, 32, 64)
FIRST_PORT = 30100
SLOW_S = 2.0
HEAD = ("hosts", "wall s", "CPU s", "peak MiB", "threads")


def main(inventory: Path, work: Path, rounds: int, rtt_ms: int) -> None:
    """The first host of the inventory is the one that all others repeat."""
    rigup, versions = install_rigup(work)
    host = next(iter(load_inventory(inventory).hosts.values()))
    words = (str(rigup), "provision", "--host", host.name, "--inventory", str(inventory))
    run(words)  # to the wanted state first, if it is not in it
    home = work / "replay"
    home.mkdir(parents=True, exist_ok=True)
    print(f"{described()}; {', '.join(versions)}; round trip {rtt_ms} ms, {rounds} rounds\n")
    for slow_s in (0.0, SLOW_S):
        print(f"One of the hosts takes {slow_s:g} s longer than the others:\n")
        with replayed(inventory, host, home, rtt_ms / 1000, slow_s):
            rows = [_row(rigup, home, count, rounds) for count in COUNTS]
        print(table(HEAD, rows) + "\n")


def _row(rigup: Path, home: Path, count: int, rounds: int) -> tuple[str, ...]:
    runs = [_provision(rigup, home, count) for _ in range(rounds + 1)][1:]
    return (
        str(count),
        f"{median(one.seconds for one in runs):.2f}",
        f"{median(one.cpu_s for one in runs):.2f}",
        f"{max(one.peak_mib for one in runs):.0f}",
        str(max(one.threads for one in runs)),
    )


def _provision(rigup: Path, home: Path, count: int) -> Run:
    inventory = home / f"hosts{count}.yaml"
    words = (str(rigup), "provision", "--all", "--inventory", str(inventory), "--json")
    done = run(words, env={"RIGUP_HOME": str(home)})
    if done.exit_code or not rigup_is_unchanged(done.stdout, done.stderr):
        sys.exit(f"rigup changed something or failed:\n{done.last_words()}")
    return done


@contextmanager
def replayed(
    inventory: Path, host: Host, home: Path, rtt_s: float, slow_s: float
) -> Iterator[None]:
    """Simulated hosts on ports of this machine, with inventories ``hosts1.yaml`` … in ``home``."""
    key = _host_key(home)
    ports = [FIRST_PORT + place for place in range(max(COUNTS))]
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    names = "".join(f"[127.0.0.1]:{port} {public}\n" for port in ports)
    (home / "known_hosts").write_text(names)
    for count in COUNTS:
        _write_inventory(inventory, host, ports[:count], home / f"hosts{count}.yaml")
    settings = {
        "ports": ports,
        "host_key": str(key),
        "authorized_keys": f"{host.identity_file}.pub",
        "rtt_s": rtt_s,
        "slow_s": slow_s,
        "origin": {
            "host": host.address,
            "port": host.port or 22,
            "username": host.user,
            "client_keys": [str(host.identity_file)],
            "known_hosts": str(known_hosts_file()),
            "config": None,
        },
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.provision.replay"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server:
        server.stdin.write(json.dumps(settings).encode())
        server.stdin.close()
        server.stdout.readline()
        try:
            yield
        finally:
            server.terminate()


def _host_key(home: Path) -> Path:
    key = home / "host_key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def _write_inventory(template: Path, host: Host, ports: list[int], path: Path) -> None:
    """The same host over and over, with its settings."""
    known: dict[str, Any] = yaml.safe_load(template.read_text("utf-8"))
    hosts = {
        f"h{place + 1:02}": {**known["hosts"][host.name], "address": "127.0.0.1", "port": port}
        for place, port in enumerate(ports)
    }
    path.write_text(yaml.safe_dump({"defaults": known.get("defaults", {}), "hosts": hosts}))
