"""The package sources and keys that rigup itself put on the host, and foreign ones beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output


@dataclass(frozen=True)
class SourceFacts:
    """Path -> content of rigup's source files, path -> SHA-256 of its keys.

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
set --
for key in /etc/apt/keyrings/rigup-* /etc/pki/rpm-gpg/rigup-*; do
  [ -e "$key" ] && set -- "$@" "$key"
done
[ $# -eq 0 ] || sha256sum "$@" | while read -r digest key; do echo "key $key $digest"; done
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
            path, _, digest = rest.partition(" ")
            keys[path] = digest
        elif kind == "foreign":
            leftovers.append(rest)
    return SourceFacts(files, keys, tuple(leftovers))


SOURCES = Fact("sources", SCRIPT, parse)
