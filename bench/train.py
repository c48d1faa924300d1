"""From Enter to the first line of a job's log, beside the raw tools on the same host.

    python -m bench.train --host lab01 [--repeat 5] [--script finetune_llama.py]

Contenders, one after the other in every round: ``rigup train --follow``, and ``ssh HOST docker run
IMAGE`` with the same image, which selects no code, asks no GPU and keeps nothing. The raw tool
prints its line without importing PyTorch, as the example does. Jobs are stopped afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time

from inventory import Host, find_inventory, load_inventory
from provisioner.home import known_hosts_file

RIGUP = (sys.executable, "-c", "import tasks; tasks.main()")


def main() -> int:
    options = _options()
    inventory = load_inventory(find_inventory(None, os.environ))
    [host] = inventory.select(hosts=options.host)
    times: dict[str, list[float]] = {"rigup train": [], "ssh + docker run": []}
    image = ""
    for _ in range(options.repeat):
        seconds, image = first_line_of_job(options.host, options.script)
        times["rigup train"].append(seconds)
        times["ssh + docker run"].append(first_line_of_raw(host, image))
    raw = statistics.median(times["ssh + docker run"])
    for name, found in times.items():
        middle = statistics.median(found)
        print(f"{name:<18} {min(found):.2f}  {middle:.2f}  {max(found):.2f} s  x{middle / raw:.2f}")
    print(f"minimum, median, maximum of {options.repeat}; image {image}")
    return 0


def first_line_of_job(host: str, script: str) -> tuple[float, str]:
    """Seconds, and the job's image. The first line on stdout is the job's id."""
    words = [*RIGUP, "train", "--script", script, "--host", host, "--follow"]
    started = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None
        job = process.stdout.readline().decode().strip()
        line = process.stdout.readline()
        seconds = time.monotonic() - started
        process.kill()
    if not line:
        raise SystemExit(f"no line in the log of {job!r}")
    found = subprocess.run([*RIGUP, "describe", job, "--json"], capture_output=True, check=True)
    subprocess.run([*RIGUP, "stop", job, "--grace", "0"], capture_output=True, check=True)
    return seconds, str(json.loads(found.stdout)["job"]["spec"]["image"])


def first_line_of_raw(host: Host, image: str) -> float:
    words = ("docker", "run", "--rm", "--entrypoint", "python", image, "-c", "print()")
    started = time.monotonic()
    with subprocess.Popen([*_ssh(host), shlex.join(words)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.monotonic() - started
        process.wait()
    if not line:
        raise SystemExit(f"the raw tools printed nothing: {' '.join([*_ssh(host), *words])}")
    return seconds


def _ssh(host: Host) -> list[str]:
    words = ["ssh", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known_hosts_file()}"]
    words += ["-p", str(host.port or 22)]
    words += ["-i", str(host.identity_file)] if host.identity_file else []
    return [*words, f"{host.user}@{host.address}" if host.user else host.address]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--host", required=True)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--script", default="finetune_llama.py")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
