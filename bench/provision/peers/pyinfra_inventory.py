"""The hosts of the state file in $BENCH_STATE, as a pyinfra inventory."""

import json
import os

with open(os.environ["BENCH_STATE"]) as file:
    STATE = json.load(file)

hosts = [
    (
        name,
        {
            "ssh_hostname": wanted["address"],
            "ssh_port": wanted["port"],
            "ssh_user": wanted["user"],
            "ssh_key": wanted["identity"],
            "ssh_known_hosts_file": wanted["known_hosts"],
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
        },
    )
    for name, wanted in STATE.items()
]
