"""The operating system: distribution, kernel, architecture, boot."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output, key_values


@dataclass(frozen=True)
class OsFacts:
    """``id`` and ``version`` as in os-release(5); ``architecture`` as ``uname -m`` says it."""

    id: str
    version: str
    codename: str
    pretty_name: str
    like: tuple[str, ...]
    kernel: str
    architecture: str
    boot_id: str
    systemd: bool
    is_practice_host: bool


SCRIPT = r"""
cat /etc/os-release || cat /usr/lib/os-release
printf '\nRIGUP_KERNEL=%s\nRIGUP_ARCH=%s\n' "$(uname -r)" "$(uname -m)"
printf 'RIGUP_BOOT=%s\n' "$(cat /proc/sys/kernel/random/boot_id)"
[ -d /run/systemd/system ] && echo RIGUP_SYSTEMD=1
[ -e /etc/rigup-lab-host ] && echo RIGUP_PRACTICE=1
exit 0
"""


def parse(output: Output) -> OsFacts:
    values = key_values(output.text)
    if "ID" not in values:
        raise ValueError("no ID in os-release")
    return OsFacts(
        id=_word(values["ID"]),
        version=_word(values.get("VERSION_ID", "")),
        codename=_word(values.get("VERSION_CODENAME", "")),
        pretty_name=values.get("PRETTY_NAME", values["ID"]),
        like=tuple(values.get("ID_LIKE", "").split()),
        kernel=_word(values["RIGUP_KERNEL"]),
        architecture=values["RIGUP_ARCH"],
        boot_id=values["RIGUP_BOOT"],
        systemd=values.get("RIGUP_SYSTEMD") == "1",
        is_practice_host=values.get("RIGUP_PRACTICE") == "1",
    )


def _word(text: str) -> str:
    """It becomes a part of package names, addresses and files: os-release(5) allows less still."""
    if not re.fullmatch(r"[A-Za-z0-9._~+:-]{0,128}", text):
        raise ValueError(f"{text[:60]!r} is no name or version")
    return text


OS = Fact("os", SCRIPT, parse)
