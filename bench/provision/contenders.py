"""rigup and its peers as commands, and how each one says that it had nothing to change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.provision.measure import Run, run
from bench.provision.programs import Programs
from bench.provision.state import ANSIBLE_HOSTS, WANTED

PEERS = Path(__file__).with_name("peers")
PYINFRA_TOTAL = re.compile(r"Grand total +(\d+) +- +- +(\d+)")
ANSIBLE_HOST = re.compile(r"^\S+ +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.M)


@dataclass(frozen=True)
class Contender:
    """``is_unchanged`` reads what a run that ended well printed on stdout and stderr. ``dry``:
    words that make it look only."""

    name: str
    words: tuple[str, ...]
    dry: tuple[str, ...]
    is_unchanged: Callable[[str, str], bool]
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *, dry: bool = False) -> Run:
        return run((*self.words, *(self.dry if dry else ())), env=self.env, cwd=PEERS)

    def finds_nothing_to_do(self, done: Run) -> bool:
        return done.exit_code == 0 and self.is_unchanged(done.stdout, done.stderr)


def contenders(programs: Programs, inventory: Path, state: Path) -> dict[str, Contender]:
    """By name; ``state`` is the folder of the peers' inventories."""
    found = (
        Contender(
            "rigup",
            (str(programs.rigup), "provision", "--all", "--inventory", str(inventory), "--json"),
            ("--check",),
            rigup_is_unchanged,
        ),
        Contender(
            "pyinfra",
            (str(programs.pyinfra), "-y", "pyinfra_inventory.py", "pyinfra_deploy.py"),
            ("--dry",),
            pyinfra_is_unchanged,
            {"BENCH_STATE": str(state / WANTED)},
        ),
        Contender(
            "Ansible",
            (str(programs.ansible), "-i", str(state / ANSIBLE_HOSTS), "playbook.yml"),
            ("--check",),
            ansible_is_unchanged,
            {"ANSIBLE_CONFIG": str(PEERS / "ansible.cfg")},
        ),
    )
    return {contender.name: contender for contender in found}


def rigup_is_unchanged(stdout: str, stderr: str) -> bool:
    reports = json.loads(stdout)
    return bool(reports) and all(
        step["status"] == "ok" for report in reports for step in report["steps"]
    )


def pyinfra_is_unchanged(stdout: str, stderr: str) -> bool:
    """Every operation of every host under "No Change"."""
    total = PYINFRA_TOTAL.search(stdout + stderr)
    return total is not None and total[1] == total[2]


def ansible_is_unchanged(stdout: str, stderr: str) -> bool:
    hosts = ANSIBLE_HOST.findall(stdout)
    return bool(hosts) and all(counts == ("0", "0", "0") for counts in hosts)
