"""Are the agent's files on the host what their names say?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output

AGENT_FILE = re.compile(r"([0-9a-f]{64})\|([0-9a-f]{64})\.pyz")


@dataclass(frozen=True)
class AgentFiles:
    """``damaged``: names (SHA-256 digests) of agents whose content is another."""

    damaged: tuple[str, ...] = ()


SCRIPT = r"""
home=$(getent passwd "${SUDO_USER:-$(id -un)}" | cut -d: -f6)
case $STATE_DIR in
  /*) dir=$STATE_DIR ;;
  "~/"*) dir=$home/${STATE_DIR#"~/"} ;;
  *) dir=$home/$STATE_DIR ;;
esac
for file in "$dir"/agent/*.pyz; do
  [ -e "$file" ] || continue
  digest=$(sha256sum < "$file" 2>/dev/null) || continue
  printf '%s|%s\n' "${digest%% *}" "${file##*/}"
done
exit 0
"""


def parse(output: Output) -> AgentFiles:
    found = filter(None, map(AGENT_FILE.fullmatch, output.text.splitlines()))
    return AgentFiles(tuple(sorted(match[2] for match in found if match[1] != match[2])))


AGENT_FILES = Fact("doctor_agent_files", SCRIPT, parse)
