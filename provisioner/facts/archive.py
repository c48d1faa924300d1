"""The apt sources that a host already has, whoever wrote them: sources.list(5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output

MASKED = "://***@"
"""Stands for a password in a URI, which does not leave the host."""

FIELD_OF_OPTION = {"arch": "Architectures", "lang": "Languages", "target": "Targets"}
"""Names of one-line options that differ from deb822's by more than letter case."""


@dataclass(frozen=True)
class AptSource:
    """``settings``: the other fields of its deb822 form, such as Signed-By; values may have
    several lines."""

    uris: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class ArchiveFacts:
    """Enabled sources of binary packages, without rigup's own files."""

    sources: tuple[AptSource, ...]


SCRIPT = r"""
cd /etc/apt 2>/dev/null || exit 0
for file in sources.list sources.list.d/*.list sources.list.d/*.sources; do
  case $file in */rigup-*) continue ;; esac
  [ -r "$file" ] || continue
  printf 'file %s\n' "$file"
  sed 's|://[^/@ ]*@|://***@|g' "$file"
  printf '\n.\n'
done
exit 0
"""


def parse(output: Output) -> ArchiveFacts:
    found: list[AptSource] = []
    for name, lines in _files(output.text.splitlines()):
        found.extend(_stanzas(lines) if name.endswith(".sources") else _one_liners(lines))
    return ArchiveFacts(tuple(found))


def _files(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    remaining = iter(lines)
    for line in remaining:
        if line.startswith("file "):
            yield line[5:], list(iter(lambda: next(remaining, "."), "."))


def _one_liners(lines: Iterable[str]) -> Iterator[AptSource]:
    for line in lines:
        found = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+[^#\s]+)*)", line)
        if found:
            pairs = (word.partition("=") for word in (found[1] or "").split())
            settings = {_field(key): value.replace(",", " ") for key, _, value in pairs if value}
            components = tuple(found[4].split())
            yield AptSource(found[2], (found[3],), components, settings)


def _field(option: str) -> str:
    return FIELD_OF_OPTION.get(option.lower(), option.title())


def _stanzas(lines: Iterable[str]) -> Iterator[AptSource]:
    text = "\n".join(line for line in lines if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        pairs = re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE)
        fields = {key.title(): value for key, value in pairs}
        kinds = fields.pop("Types", "").split()
        enabled = fields.pop("Enabled", "yes").strip().lower() not in ("no", "false", "0", "off")
        if "deb" not in kinds or not enabled:
            continue
        suites, components = fields.pop("Suites", ""), fields.pop("Components", "")
        uris = " ".join(fields.pop("Uris", "").split())
        yield AptSource(uris, tuple(suites.split()), tuple(components.split()), fields)


ARCHIVE = Fact("archive", SCRIPT, parse)
