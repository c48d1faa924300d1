"""`python -m bench.provision noop|fresh|scale`: see the README beside this file."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.provision import drift, fresh, noop, scale

EVERYONE = "rigup,pyinfra,Ansible"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.provision")
    parser.add_argument("--work", type=Path, default=Path("build/bench-provision"))
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("noop", help="nothing to do: rigup, pyinfra and Ansible")
    command.add_argument("--inventory", type=Path, required=True)
    command.add_argument("--rounds", type=int, default=7)
    command.add_argument("--only", default=EVERYONE, help="names of contenders")
    command = commands.add_parser("scale", help="1 to 64 hosts that repeat a real one")
    command.add_argument("--inventory", type=Path, required=True)
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--rtt-ms", type=int, default=50)
    command = commands.add_parser("drift", help="who notices what, when one thing is broken")
    command.add_argument("--inventory", type=Path, required=True)
    command.add_argument("--only", default=EVERYONE, help="names of contenders")
    command = commands.add_parser("fresh", help="new hosts: rigup and a shell script")
    command.add_argument("--hosts", type=int, default=2)
    command.add_argument("--rounds", type=int, default=3)
    given = vars(parser.parse_args())
    given["work"] = given["work"].resolve()
    {"noop": noop.main, "scale": scale.main, "fresh": fresh.main, "drift": drift.main}[
        given.pop("command")
    ](**given)


main()
