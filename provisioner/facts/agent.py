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
for file in "$dir"/agent/*.pyz; do
  [ -e "$file" ] && sha256sum < "$file" | cut -d' ' -f1
done
for unit in "$home"/.config/systemd/user/default.target.wants/rigup-agent*.service; do
  [ -e "$unit" ] && printf 'unit:%s\n' "$(sha256sum < "$unit" | cut -d' ' -f1)"
done
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
