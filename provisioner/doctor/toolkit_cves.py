"""What a version of nvidia-container-toolkit is open to."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner import data
from provisioner.doctor.finding import Finding
from provisioner.doctor.phrases import Span
from provisioner.doctor.textlog import Block

VERSION_LINE = re.compile(
    r"nvidia container toolkit cli version (\d{1,4}\.\d{1,4}\.\d{1,4})\b"
    r"|(?<!rc  )\bnvidia-container-toolkit(?:-base)?(?::[a-z0-9]{1,12})?(?:/[a-z,-]{1,40})?"
    r"[ \t=-]{1,60}(\d{1,4}\.\d{1,4}\.\d{1,4})(?:[-~ ]|$)",
    re.MULTILINE,
)
"""`nvidia-ctk --version`, and the lines of dpkg, apt, rpm and dnf that name the package; in lower
case. `rc` is dpkg's word for a package of which only the configuration is left."""


def versions_in(block: Block) -> Iterator[tuple[str, Span]]:
    """The toolkit versions that a text reports."""
    if "container" in block.lowered:
        for match in VERSION_LINE.finditer(block.lowered):
            yield match[1] or match[2], match.span()


def floor() -> str:
    """The smallest acceptable version."""
    version: str = data.load("drivers")["toolkit_floor"]
    return version


def cves_of(version: str) -> tuple[str, ...]:
    """The known vulnerabilities of a version such as 1.17.3."""
    rows = data.load("failures")["toolkit_cves"]
    return tuple(row["cve"] for row in rows if _number(version) < _number(row["fixed_in"]))


def finding(version: str, evidence: str, where: str) -> Finding | None:
    """What is wrong with a version; None at or above the floor."""
    if _number(version) >= _number(floor()):
        return None
    return Finding(
        id="toolkit-vulnerable",
        severity="problem",
        subject="toolkit",
        cause=f"nvidia-container-toolkit {version} is below {floor()}: "
        f"{', '.join(cves_of(version))}",
        evidence=evidence,
        where=where,
        fix="invoke provision --host HOST (upgrades the four toolkit packages together)",
        source="CND release notes; NVIDIA bulletins 5659 and 5850 (2026-11-21)",
    )


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
