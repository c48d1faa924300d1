"""The package sources and keys that rigup itself put on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output


@dataclass(frozen=True)
class SourceFacts:
    """Path -> content of rigup's source files, path -> SHA-256 of its keys."""

    files: Mapping[str, str]
    keys: Mapping[str, str]


SCRIPT = r"""
for file in /etc/apt/sources.list.d/rigup-*.sources; do
  [ -e "$file" ] && printf 'file %s\n%s\n.\n' "$file" "$(cat "$file")"
done
for key in /etc/apt/keyrings/rigup-*; do
  [ -e "$key" ] && printf 'key %s %s\n' "$key" "$(sha256sum < "$key" | cut -d' ' -f1)"
done
exit 0
"""


def parse(output: Output) -> SourceFacts:
    files: dict[str, str] = {}
    keys: dict[str, str] = {}
    lines = iter(output.text.splitlines())
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "file":
            files[rest] = "\n".join(iter(lambda: next(lines, "."), ".")) + "\n"
        elif kind == "key":
            path, _, digest = rest.partition(" ")
            keys[path] = digest
    return SourceFacts(files, keys)


SOURCES = Fact("sources", SCRIPT, parse)
