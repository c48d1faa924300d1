"""The wanted state of every host, as a pyinfra deploy. State: the JSON file in $BENCH_STATE."""

import json
import os

from pyinfra import host
from pyinfra.api import DeployError
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server, systemd

with open(os.environ["BENCH_STATE"]) as file:
    WANTED = json.load(file)[host.name]

apt.packages(
    name="packages at their versions",
    packages=[f"{name}={version}" for name, version in WANTED["packages"].items()],
    _sudo=True,
)
for entry in WANTED["root_files"]:
    files.put(
        name=entry["path"],
        src=entry["local"],
        dest=entry["path"],
        mode=entry["mode"],
        user="root",
        group="root",
        _sudo=True,
    )
for service in WANTED["services"]:
    systemd.service(name=service, service=service, running=True, enabled=True, _sudo=True)
server.user(
    name="group membership", user=WANTED["user"], groups=WANTED["groups"], append=True, _sudo=True
)
files.file(name="lingering", path=WANTED["linger"], _sudo=True)
for entry in WANTED["user_files"]:
    files.put(name=entry["path"], src=entry["local"], dest=entry["path"], mode=entry["mode"])
for entry in WANTED["user_links"]:
    files.link(name=entry["path"], path=entry["path"], target=entry["target"])
for command, expected in WANTED["answers"]:
    answer = host.get_fact(Command, command)
    if expected not in (answer or ""):
        raise DeployError(f"{command}: {answer!r} holds no {expected!r}")
