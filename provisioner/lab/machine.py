"""What practice hosts inherit from this machine: its package mirror, the authorities it trusts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provisioner.errors import LabError

MIRROR_VARIABLE = "RIGUP_DEBIAN_MIRROR"
APT_ROOT = Path("/etc/apt")
LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")
INHERITED_APT_OPTIONS = (
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
)
_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+\S+")


@dataclass(frozen=True)
class Machine:
    """``authorities`` maps a file name (``*.crt``) to its bytes; ``apt_options`` are set ones."""

    archive: str
    security: str
    authorities: Mapping[str, bytes] = field(default_factory=dict)
    apt_options: Mapping[str, str] = field(default_factory=dict)


def read_machine() -> Machine:
    """This machine's settings. Raises LabError where it knows no Debian archive."""
    archive, security = choose_mirror(_source_files(), os.environ.get(MIRROR_VARIABLE))
    return Machine(archive, security, _authorities(LOCAL_AUTHORITIES), _apt_options())


def choose_mirror(sources: Iterable[str], wanted: str | None = None) -> tuple[str, str]:
    """The archive and the security archive: ``wanted`` (the first one's URL), else what apt source
    files name; a security archive that nobody names is taken to lie beside the archive."""
    uris = [uri.rstrip("/") for text in sources for uri in _uris(text)]
    archive = wanted or next((uri for uri in uris if uri.endswith("/debian")), None)
    if archive is None:
        raise LabError(
            "this machine's apt sources name no Debian archive to build practice hosts from",
            remedy=f"{MIRROR_VARIABLE}=http://your.mirror/debian (one ending in /debian)",
        )
    beside = f"{archive.rstrip('/')}-security"
    named = (uri for uri in uris if uri.endswith("/debian-security"))
    return archive.rstrip("/"), beside if wanted else next(named, beside)


def _uris(text: str) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        one_line = _ONE_LINE.match(line)
        if one_line:
            found.append(one_line.group(1))
        elif line.lower().startswith("uris:"):
            found.extend(line.split()[1:])
    return [uri for uri in found if uri.startswith(("http://", "https://"))]


def _source_files() -> list[str]:
    parts = APT_ROOT / "sources.list.d"
    paths = [APT_ROOT / "sources.list", *sorted(parts.glob("*.sources")), *parts.glob("*.list")]
    return [path.read_text("utf-8", "replace") for path in paths if path.is_file()]


def _authorities(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.crt"))}


def _apt_options() -> dict[str, str]:
    try:
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {}
    return pick_apt_options(dump.stdout)


def pick_apt_options(dump: str) -> dict[str, str]:
    """From ``apt-config dump``: the options a host needs in order to reach the same mirror."""
    pairs = re.findall(r'^(\S+) "([^"]*)";$', dump, re.MULTILINE)
    return {key: value for key, value in pairs if key in INHERITED_APT_OPTIONS and value}
