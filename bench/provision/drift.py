"""The same checks: one thing at a time is broken on a host, and every contender must notice it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.provision.contenders import Contender, contenders
from bench.provision.programs import install
from bench.provision.state import read_state, ssh_words, write_inventories
from bench.provision.stats import table
from inventory import load_inventory

BREAKAGES = {
    "a package of the toolkit is missing": "dpkg --remove --force-depends nvidia-container-toolkit",
    "a package is not held": "apt-mark unhold nvidia-container-toolkit",
    "daemon.json lacks a key": (
        'python3 -c \'import json, pathlib; path = pathlib.Path("/etc/docker/daemon.json");'
        ' value = json.loads(path.read_text()); value.pop("live-restore");'
        " path.write_text(json.dumps(value))'"
    ),
    "Docker does not start at boot": "systemctl disable docker.service",
    "Docker does not run": "systemctl stop docker.socket docker.service",
    "the persistence daemon does not run": "systemctl stop nvidia-persistenced.service",
    "the user is not in the group": "gpasswd --delete $LOGIN docker",
    "the user does not linger": "loginctl disable-linger $LOGIN",
    "the agent is another": "for file in /home/$LOGIN/.rigup/agent/*.pyz; do echo >>$file; done",
    "the boot unit is another": "echo >>/home/$LOGIN/.config/systemd/user/rigup-agent.service",
    "the boot unit is not enabled": (
        "rm /home/$LOGIN/.config/systemd/user/default.target.wants/rigup-agent.service"
    ),
    "nvidia-smi does not answer": "chmod -x $(readlink -f /usr/bin/nvidia-smi)",
    "a vendor source is another": "sed -i '$a # x' /etc/apt/sources.list.d/rigup-nvidia.sources",
    "a vendor key is another": "for file in /etc/apt/keyrings/rigup-*; do echo >>$file; done",
}
MEND = "chmod +x $(readlink -f /usr/bin/nvidia-smi)"
NOTICED = {True: "noticed", False: "-"}


def main(inventory: Path, work: Path, only: str) -> None:
    """Prints who notices what. The hosts are brought back to the wanted state in between."""
    programs = install(work)
    hosts = list(load_inventory(inventory).hosts.values())
    everyone = contenders(programs, inventory, work / "state")
    asked = [everyone[name] for name in only.split(",")]
    _mend(everyone["rigup"], [])
    write_inventories(read_state(hosts, work / "state"), work / "state")
    rows = []
    for name, command in BREAKAGES.items():
        shell = [*ssh_words(hosts[0]), "sudo", f"LOGIN={hosts[0].user}", "sh", "-s"]
        subprocess.run(shell, input=command.encode(), check=True, capture_output=True)
        noticed = [NOTICED[_notices(one)] for one in asked]
        rows.append((name, *noticed))
        print(rows[-1], file=sys.stderr)
        _mend(everyone["rigup"], shell)
    print(table(("broken", *(one.name for one in asked)), rows))


def _notices(contender: Contender) -> bool:
    return not contender.finds_nothing_to_do(contender.run(dry=True))


def _mend(rigup: Contender, shell: list[str]) -> None:
    if shell:
        subprocess.run(shell, input=MEND.encode(), check=True, capture_output=True)
    rigup.run()
    done = rigup.run(dry=True)
    if not rigup.finds_nothing_to_do(done):
        sys.exit(f"the hosts are not as wanted:\n{done.last_words()}")
