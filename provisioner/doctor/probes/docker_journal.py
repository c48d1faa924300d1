"""What dockerd has written since the boot, and what systemd says of it."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, NeedsRoot, Output


@dataclass(frozen=True)
class DockerJournalFacts:
    """The newest lines, oldest first. ``state`` is systemd's: active, inactive, failed…; empty
    where there is no such unit or no systemd."""

    lines: tuple[str, ...] = ()
    state: str = ""


SCRIPT = r"""
command -v docker >/dev/null && command -v journalctl >/dev/null || exit 0
[ "$(systemctl show -p LoadState --value docker.service 2>/dev/null)" = loaded ] &&
  printf 'state|%s\n' "$(systemctl is-active docker.service 2>/dev/null)"
for root in '' as_root; do
  if [ -n "$($root journalctl -u docker -q -n 1 --no-pager 2>/dev/null)" ]; then
    $root journalctl -u docker -b -q -n 300 --no-pager -o short-iso 2>/dev/null |
      cut -c -600 | sed 's/^/log|/'
    exit 0
  fi
done
as_root true 2>/dev/null || echo 'forbidden|'
exit 0
"""


def parse(output: Output) -> DockerJournalFacts:
    rows = [line.partition("|") for line in output.text.splitlines() if "|" in line]
    if any(kind == "forbidden" for kind, _, _ in rows):
        raise NeedsRoot("only root may read Docker's journal")
    return DockerJournalFacts(
        lines=tuple(text for kind, _, text in rows if kind == "log"),
        state=next((text for kind, _, text in rows if kind == "state"), ""),
    )


DOCKER_JOURNAL = Fact("docker_journal", SCRIPT, parse, slow=True)
