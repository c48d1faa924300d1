"""Runs on a provisioned host, as root: prints as JSON the state that rigup brought about.

Standard library only; argument: the login user.
"""

import base64
import glob
import json
import os
import pwd
import subprocess
import sys

PACKAGES = (
    "docker.io",
    "nvidia-open",
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
    "python3",
)
ROOT_FILES = ("/etc/docker/daemon.json",)
SERVICES = ("docker.service", "nvidia-persistenced.service")
ANSWERS = (
    "apt-mark showhold",
    "nvidia-smi --format=csv,noheader"
    " --query-gpu=uuid,driver_version,memory.total,compute_cap,persistence_mode,name",
    "/usr/sbin/modinfo -F version nvidia",
    "docker info 2>/dev/null |"
    " grep -oE 'Server Version: .*|Cgroup Driver: .*|\\bnvidia\\b' | sort -u",
    "nvidia-ctk --version",
    "sha256sum /var/run/cdi/nvidia.yaml",
    "python3 --version",
    ". /etc/os-release; echo $ID $VERSION_ID $(uname -m)",
    "dpkg --audit; ls -A /var/lib/dpkg/updates",
    "ls /var/lib/rigup/pending-reboot.json 2>&1 || true",
    "ls /etc/systemd/system/docker.service.d 2>&1 || true",
    "sha256sum /var/lib/rigup/proof.json /proc/sys/kernel/random/boot_id",
)
"""Commands of the login user whose output must be what it is now."""


def main() -> None:
    user = pwd.getpwnam(sys.argv[1])
    home = user.pw_dir
    units = home + "/.config/systemd/user"
    print(
        json.dumps(
            {
                "packages": packages(),
                "root_files": [
                    described(path) for pattern in ROOT_FILES for path in found(pattern)
                ],
                "services": [name for name in SERVICES if is_active(name)],
                "groups": ["docker"],
                "linger": "/var/lib/systemd/linger/" + user.pw_name,
                "user_files": [
                    described(path)
                    for path in found(home + "/.rigup/agent/*.pyz") + found(units + "/rigup-*")
                    if not os.path.islink(path)
                ],
                "user_links": [
                    {"path": path, "target": os.readlink(path)}
                    for path in found(units + "/default.target.wants/rigup-*")
                ],
                "answers": [(command, said(command)) for command in ANSWERS],
            }
        )
    )


def packages() -> "dict[str, str]":
    """Name -> version of the installed ones."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}|${Package}|${Version}\n", *PACKAGES]
    listing = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    rows = [line.split("|") for line in listing.stdout.splitlines()]
    return {name: version for status, name, version in rows if status.startswith(("ii", "hi"))}


def found(pattern: str) -> "list[str]":
    return sorted(path for path in glob.glob(pattern) if os.path.isfile(path))


def described(path: str) -> "dict[str, str]":
    with open(path, "rb") as file:
        content = base64.b64encode(file.read()).decode()
    return {"path": path, "mode": f"{os.stat(path).st_mode & 0o7777:o}", "content": content}


def said(command: str) -> str:
    shell = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
    return shell.stdout.strip()


def is_active(name: str) -> bool:
    return subprocess.run(["systemctl", "is-active", "-q", name]).returncode == 0


main()
