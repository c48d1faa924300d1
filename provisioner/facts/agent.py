"""Which builds of the remote agent are on the host."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, Output


@dataclass(frozen=True)
class AgentFacts:
    """``builds``: SHA-256 digests of the agents in the state directory."""

    builds: tuple[str, ...]


SCRIPT = r"""
home=$(getent passwd "${SUDO_USER:-$(id -un)}" | cut -d: -f6)
case $STATE_DIR in
  /*) dir=$STATE_DIR ;;
  "~/"*) dir=$home/${STATE_DIR#"~/"} ;;
  *) dir=$home/$STATE_DIR ;;
esac
for file in "$dir"/agent/*.pyz; do
  [ -e "$file" ] && sha256sum < "$file" | cut -d' ' -f1
done
exit 0
"""


def parse(output: Output) -> AgentFacts:
    return AgentFacts(tuple(line for line in output.text.split() if len(line) == 64))


AGENT = Fact("agent", SCRIPT, parse)
