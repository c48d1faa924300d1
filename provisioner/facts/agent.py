"""Which builds of the remote agent are on the host."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class AgentFacts:
    """SHA-256 digests: ``builds`` of the agents in the state directory, ``boot_units`` of rigup's
    enabled systemd user units."""

    builds: tuple[str, ...]
    boot_units: tuple[str, ...] = ()


SCRIPT = r"""
home=$(getent passwd "${SUDO_USER:-$(id -un)}" | cut -d: -f6)
case $STATE_DIR in
  /*) dir=$STATE_DIR ;;
  "~/"*) dir=$home/${STATE_DIR#"~/"} ;;
  *) dir=$home/$STATE_DIR ;;
esac
set --
for file in "$dir"/agent/*.pyz; do
  [ -e "$file" ] && [ ! -L "$file" ] && set -- "$@" "$file"
done
[ $# -eq 0 ] || sha256sum -- "$@" | sed 's/ .*//'
set -- "$home"/.config/systemd/user/default.target.wants/rigup-agent*.service
sha256sum -- "$@" 2>/dev/null | sed 's/^/unit:/; s/ .*//'
exit 0
"""


def parse(output: Output) -> AgentFacts:
    words = output.text.split()
    return AgentFacts(
        builds=tuple(word for word in words if DIGEST.fullmatch(word)),
        boot_units=tuple(
            word[5:]
            for word in words
            if DIGEST.fullmatch(word.removeprefix("unit:")) and word.startswith("unit:")
        ),
    )


AGENT = Fact("agent", SCRIPT, parse)
