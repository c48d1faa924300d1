"""Nothing to do: how long each contender takes to find that out, on the same hosts in one run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.provision.contenders import Contender, contenders
from bench.provision.machine import described
from bench.provision.measure import Run
from bench.provision.programs import install
from bench.provision.state import read_state, write_inventories
from bench.provision.stats import comparison, rotated
from inventory import load_inventory


def main(inventory: Path, work: Path, rounds: int, only: str) -> None:
    """Prints the table; raw figures go to ``noop.json`` in ``work``."""
    programs = install(work)
    hosts = list(load_inventory(inventory).hosts.values())
    known = contenders(programs, inventory, work / "state")
    everyone = {name: known[name] for name in only.split(",")}
    converge(everyone["rigup"])
    write_inventories(read_state(hosts, work / "state"), work / "state")
    runs: dict[str, list[Run]] = {name: [] for name in everyone}
    for contender in everyone.values():
        unchanged(contender)  # the first run warms caches and Ansible's connections
    for number in range(rounds):
        for name in rotated(list(everyone), number):
            runs[name].append(unchanged(everyone[name]))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"{len(hosts)} hosts, {rounds} rounds; {described()}; {', '.join(programs.versions)}\n")
    print(comparison({name: [one.seconds for one in done] for name, done in runs.items()}, "rigup"))
    figures = {name: [vars(one) for one in done] for name, done in runs.items()}
    (work / "noop.json").write_text(json.dumps(figures, indent=1))


def converge(rigup: Contender) -> None:
    """Bring the hosts to the wanted state first, if they are not in it."""
    done = rigup.run()
    if not rigup.finds_nothing_to_do(done):
        unchanged(rigup)


def unchanged(contender: Contender) -> Run:
    """A run that must find nothing to do; anything else ends the benchmark."""
    done = contender.run()
    if not contender.finds_nothing_to_do(done):
        sys.exit(f"{contender.name} changed something or failed:\n{done.last_words()}")
    return done
