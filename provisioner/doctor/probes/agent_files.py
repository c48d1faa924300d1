"""Are the agent's files what their names say, and is the state directory the login user's own?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output

AGENT_FILE = re.compile(r"([0-9a-f]{64})\|([0-9a-f]{64})\.pyz")

FOREIGN = "foreign|"


@dataclass(frozen=True)
class AgentFiles:
    """``damaged``: names (SHA-256 digests) of agents whose content is another. ``foreign``: the
    owner of the state directory, where that is not the login user."""

    damaged: tuple[str, ...] = ()
    foreign: str = ""


SCRIPT = r"""
user=${SUDO_USER:-$(id -un)}
home=$(getent passwd "$user" | cut -d: -f6)
case $STATE_DIR in
  /*) dir=$STATE_DIR ;;
  "~/"*) dir=$home/${STATE_DIR#"~/"} ;;
  *) dir=$home/$STATE_DIR ;;
esac
owner=$(stat -L -c %U -- "$dir" 2>/dev/null)
[ -z "$owner" ] || [ "$owner" = "$user" ] || printf 'foreign|%s\n' "$owner"
for file in "$dir"/agent/*.pyz; do
  [ -e "$file" ] || continue
  digest=$(sha256sum < "$file" 2>/dev/null) || continue
  printf '%s|%s\n' "${digest%% *}" "${file##*/}"
done
exit 0
"""


def parse(output: Output) -> AgentFiles:
    lines = output.text.splitlines()
    found = filter(None, map(AGENT_FILE.fullmatch, lines))
    return AgentFiles(
        tuple(sorted(match[2] for match in found if match[1] != match[2])),
        next((line[len(FOREIGN) :] for line in lines if line.startswith(FOREIGN)), ""),
    )


AGENT_FILES = Fact("doctor_agent_files", SCRIPT, parse)
