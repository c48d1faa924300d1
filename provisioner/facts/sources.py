"""The package sources and keys that rigup itself put on the host, and foreign ones beside them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from provisioner.facts.base import Fact, Output
from provisioner.openpgp import read_key


@dataclass(frozen=True)
class SourceFacts:
    """Path -> content of rigup's source files. ``keys``: path -> fingerprint of the one public key
    that the file holds, as rigup writes it; empty where it holds anything else.

    ``leftovers``: source files of others that offer NVIDIA's driver or container toolkit too. apt
    refuses two sources with different keys ("Conflicting values set for option Signed-By"), and
    every manager would take the newest version of both.
    """

    files: Mapping[str, str]
    keys: Mapping[str, str]
    leftovers: tuple[str, ...] = ()


SCRIPT = r"""
for file in /etc/apt/sources.list.d/rigup-*.sources /etc/yum.repos.d/rigup-*.repo \
  /etc/zypp/repos.d/rigup-*.repo; do
  [ -e "$file" ] && printf 'file %s\n%s\n.\n' "$file" "$(cat "$file")"
done
for key in /etc/apt/keyrings/rigup-* /etc/pki/rpm-gpg/rigup-*; do
  [ -e "$key" ] && printf 'key %s %s\n' "$key" "$(head -c 49152 "$key" | base64 | tr -d '\n')"
done
toolkit='nvidia\.github\.io/(libnvidia-container|nvidia-docker|nvidia-container-)'
driver='developer\.download\.nvidia\.com/compute/cuda/repos'
grep -lsE "^[^#]*($toolkit|$driver)" /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
  /etc/apt/sources.list.d/*.sources /etc/yum.repos.d/*.repo /etc/zypp/repos.d/*.repo |
  while IFS= read -r file; do
    case $file in
      */rigup-*) continue ;;
      *.repo) grep -q '^enabled *= *0' "$file" && ! grep -q '^enabled *= *1' "$file" && continue ;;
    esac
    printf 'foreign %s\n' "$file"
  done
exit 0
"""


def parse(output: Output) -> SourceFacts:
    files: dict[str, str] = {}
    keys: dict[str, str] = {}
    leftovers: list[str] = []
    lines = iter(output.text.splitlines())
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "file":
            files[rest] = "\n".join(iter(lambda: next(lines, "."), ".")) + "\n"
        elif kind == "key":
            path, _, encoded = rest.partition(" ")
            keys[path] = _sole_key(base64.b64decode(encoded, validate=True))
        elif kind == "foreign":
            leftovers.append(rest)
    return SourceFacts(files, keys, tuple(leftovers))


@lru_cache(maxsize=64)
def _sole_key(data: bytes) -> str:
    """Hosts have the same few keys."""
    try:
        key = read_key(data)
        return key.fingerprint if key.self_signed().armored() == data else ""
    except ValueError:
        return ""


SOURCES = Fact("sources", SCRIPT, parse)
