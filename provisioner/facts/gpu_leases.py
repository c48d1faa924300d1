"""The directory in which the users of a host see each other's GPU leases."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, Output, key_values

DIRECTORY = "/run/lock/rigup"
"""As in remote_agent/leases.py."""
CONFIGURATION = "/etc/tmpfiles.d/rigup.conf"
MODE = "1777"


@dataclass(frozen=True)
class GpuLeaseFacts:
    """``owner`` is the uid of the directory, None where there is none; ``mode`` in octal digits.
    ``tmpfiles``: the host has systemd-tmpfiles(8), which makes it again at every boot;
    ``configuration``: what it is told, None where that file is missing."""

    owner: int | None = None
    mode: str = ""
    tmpfiles: bool = False
    configuration: str | None = None

    @property
    def fit(self) -> bool:
        return self.owner == 0 and self.mode == MODE


SCRIPT = f"""
command -v systemd-tmpfiles >/dev/null && echo tmpfiles=1
if [ -d {DIRECTORY} ] && [ ! -L {DIRECTORY} ]; then
  printf 'owner=%s\nmode=%s\n' "$(stat -c %u {DIRECTORY})" "$(stat -c %a {DIRECTORY})"
fi
[ -r {CONFIGURATION} ] && printf 'configuration=%s\n' "$(head -n 20 {CONFIGURATION} | tail -n 1)"
exit 0
"""


def parse(output: Output) -> GpuLeaseFacts:
    values = key_values(output.text)
    owner = values.get("owner")
    if owner is not None and not (owner.isascii() and owner.isdigit()):
        raise ValueError("a directory without an owner")
    return GpuLeaseFacts(
        owner=None if owner is None else int(owner),
        mode=values.get("mode", ""),
        tmpfiles=values.get("tmpfiles") == "1",
        configuration=values.get("configuration"),
    )


GPU_LEASES = Fact("gpu_leases", SCRIPT, parse)
