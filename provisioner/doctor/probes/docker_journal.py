"""What dockerd has written lately."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, NeedsRoot, Output


@dataclass(frozen=True)
class DockerJournalFacts:
    """The newest lines, oldest first."""

    lines: tuple[str, ...]


SCRIPT = r"""
command -v docker >/dev/null && command -v journalctl >/dev/null || exit 0
for root in '' as_root; do
  if [ -n "$($root journalctl -u docker -q -n 1 --no-pager 2>/dev/null)" ]; then
    $root journalctl -u docker -b -q -n 300 --no-pager -o short-iso 2>/dev/null | cut -c -600
    exit 0
  fi
done
as_root true 2>/dev/null || echo forbidden
"""


def parse(output: Output) -> DockerJournalFacts:
    if output.text.strip() == "forbidden":
        raise NeedsRoot("only root may read Docker's journal")
    return DockerJournalFacts(tuple(output.text.splitlines()))


DOCKER_JOURNAL = Fact("docker_journal", SCRIPT, parse, slow=True)
