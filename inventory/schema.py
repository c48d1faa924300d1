"""What may stand in an inventory and where: tables of keys and their parsers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inventory import values
from inventory.values import Parser, section

_WEB = values.url("https", "http")
_WEB_OR_FILE = values.url("https", "http", "file")
_SOURCE = values.choice("auto", "distro", "vendor")

_REPOSITORY = section(
    {"uri": _WEB_OR_FILE, "key_url": _WEB_OR_FILE, "key_fingerprint": values.fingerprint}
)

_MIRRORS = section(
    {
        "nvidia": _REPOSITORY,
        "container_toolkit": _REPOSITORY,
        "docker": _REPOSITORY,
        "epel": _REPOSITORY,
        "container_registry": values.registry,
        "python_index": _WEB_OR_FILE,
        "model_hub": _WEB,
        "http_proxy": _WEB,
        "ca_certificates": values.list_of(values.local_path),
    }
)

_CONTAINER = section(
    {
        "image": values.image,
        "mounts": values.list_of(values.mount),
        "shm_size": values.size,
    }
)

SETTINGS: Mapping[str, Parser[Any]] = {
    "user": values.user,
    "port": values.port,
    "identity_file": values.local_path,
    "jump": values.jump,
    "labels": values.labels,
    "python": values.program,
    "state_dir": values.state_dir,
    "docker_source": _SOURCE,
    "driver_source": _SOURCE,
    "driver_branch": values.branch,
    "docker_data_root": values.remote_directory,
    "workspace": values.remote_directory,
    "data_directories": values.list_of(values.remote_directory),
    "mirrors": _MIRRORS,
    "container": _CONTAINER,
    "connect_timeout": values.seconds,
    "command_timeout": values.seconds,
}
"""Valid in ``defaults``, in a group and in a host; the nearer one wins."""

HINTS: Mapping[str, str] = {
    "ansible_host": "this is called address",
    "ansible_port": "this is called port",
    "ansible_user": "this is called user",
    "ansible_ssh_private_key_file": "this is called identity_file",
    "hostname": "this is called address",
    "ip": "this is called address",
    "key": "this is called identity_file",
    "proxy_jump": "this is called jump",
    "username": "this is called user",
    "vars": "settings stand directly here, without `vars`",
}
_SHARED_HINTS = {**HINTS, "address": "an address belongs to one host"}

TOP_LEVEL = ("defaults", "groups", "hosts")

defaults = section(SETTINGS, _SHARED_HINTS)
group = section({**SETTINGS, "hosts": lambda node: values.names(node, "host")}, _SHARED_HINTS)
host = section({**SETTINGS, "address": values.address}, HINTS)
