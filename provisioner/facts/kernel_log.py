"""What the kernel has said since the boot about GPUs, memory and disks.

Only doctor asks for it: root alone may read it on most hosts.
"""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, NeedsRoot, Output


@dataclass(frozen=True)
class KernelLogFacts:
    """``source``: the program that told it. ``lines``: the newest of those that matter, Xids before
    the others, each oldest first, with the time stamps that the program gave them."""

    source: str
    lines: tuple[str, ...]


SCRIPT = r"""
telling='NVRM|NVRM: Xid|nvidia|nouveau|nova_core|NovaCore|Lockdown|Out of memory|oom-kill'
telling="$telling|I/O error|read-only|EXT4-fs error|XFS.*(error|[Ss]hutdown)|Hardware Error|AER:"
tell() {  # however much else is said, it does not push the Xids out
  printf 'source|%s\n' "$1"
  lines=$(grep -aE "$telling" | cut -c -600 | tail -n 20000)
  printf '%s\n' "$lines" | grep -a 'NVRM: Xid' | tail -n 200 | sed 's/^/log|/'
  printf '%s\n' "$lines" | grep -av 'NVRM: Xid' | tail -n 200 | sed '/^$/d; s/^/log|/'
}
for root in '' as_root; do
  if $root dmesg >/dev/null 2>&1; then
    { $root dmesg --time-format iso 2>/dev/null || $root dmesg; } | tell dmesg
    exit 0
  fi
  if [ -n "$($root journalctl -k -b -q -n 1 --no-pager 2>/dev/null)" ]; then
    $root journalctl -k -b -q --no-pager -o short-iso -n 50000 2>/dev/null | tell 'journalctl -k'
    exit 0
  fi
done
if as_root true 2>/dev/null; then echo 'nowhere|'; else echo 'forbidden|'; fi
"""


def parse(output: Output) -> KernelLogFacts:
    rows = [line.partition("|") for line in output.text.splitlines() if "|" in line]
    sources = [text for kind, _, text in rows if kind == "source"]
    if sources:
        return KernelLogFacts(sources[0], tuple(text for kind, _, text in rows if kind == "log"))
    if any(kind == "forbidden" for kind, _, _ in rows):
        raise NeedsRoot("only root may read the kernel log")
    raise ValueError("neither dmesg nor journalctl tells the kernel log")


KERNEL_LOG = Fact("kernel_log", SCRIPT, parse, slow=True)
