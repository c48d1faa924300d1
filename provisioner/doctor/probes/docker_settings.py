"""What dockerd itself thinks of its settings, without starting with them."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, NeedsRoot, Output


@dataclass(frozen=True)
class DockerSettingsFacts:
    """``complaint``: why dockerd would refuse daemon.json; empty where it would take it, where
    there is none, and where dockerd cannot be asked (before Docker 23)."""

    complaint: str = ""


SCRIPT = r"""
file=/etc/docker/daemon.json
[ -e $file ] && command -v dockerd >/dev/null || exit 0
root=
[ -r $file ] || root=as_root
$root test -r $file 2>/dev/null || { echo 'forbidden|'; exit 0; }
told=$(limited $root dockerd --validate --config-file=$file 2>&1)
code=$?
case $told in *'unknown flag'*) exit 0 ;; esac
[ $code = 0 ] || printf 'complaint|%s\n' "$(printf %s "$told" | tr '\n' ' ' | cut -c -500)"
exit 0
"""


def parse(output: Output) -> DockerSettingsFacts:
    rows = [line.partition("|") for line in output.text.splitlines() if "|" in line]
    if any(kind == "forbidden" for kind, _, _ in rows):
        raise NeedsRoot("only root may read Docker's settings")
    return DockerSettingsFacts(next((text for kind, _, text in rows if kind == "complaint"), ""))


DOCKER_SETTINGS = Fact("docker_settings", SCRIPT, parse, slow=True)
