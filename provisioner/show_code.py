"""What of the code travels with a job, and what does not, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from provisioner.code_selection import IGNORED, LeftOut
from provisioner.sync import CodeTree
from provisioner.text import one_line

NAMED = 5
"""Names that are shown of what was left out for another reason than an ignore file."""
UNITS = ("bytes", "KiB", "MiB", "GiB")


def summary(tree: CodeTree) -> str:
    """One to three lines: how much travels, from where, and what was left out."""
    files = f"{len(tree.entries)} file{'' if len(tree.entries) == 1 else 's'}"
    where = f"{tree.root}" + (f" at {tree.revision[:12]}" if tree.revision else "")
    if tree.revision and tree.revision.endswith("+changes"):
        where += " with changes"
    lines = [f"code: {files}, {size(tree.size)} of {where}"]
    counts = Counter(one.reason for one in tree.left_out)
    if counts[IGNORED]:
        lines.append(f"ignored: {counts[IGNORED]} (.gitignore, .rigupignore)")
    for reason in sorted(set(counts) - {IGNORED}):
        lines.append(f"left out, {reason}: {_named(tree.left_out, reason)}")
    if any("secret" in reason for reason in counts):
        lines.append("to send one all the same: a line !NAME in .rigupignore")
    return "\n".join(map(one_line, lines))


def travels(tree: CodeTree, missing: Collection[str]) -> str:
    """What of it the host does not have; ``missing``: digests."""
    total = sum(
        {entry.digest: entry.size for entry in tree.entries if entry.digest in missing}.values()
    )
    return f"to be sent: {len(missing)} of its {len(tree.files)} files, {size(total)}"


def listing(tree: CodeTree) -> str:
    """Every file with its size, then what does not travel and why."""
    rows = [(size(entry.size), entry.path) for entry in tree.entries]
    width = max(len(shown) for shown, _ in rows)
    lines = [f"  {shown:>{width}}  {path}" for shown, path in rows]
    lines += [f"  {'-':>{width}}  {one.path} ({one.reason})" for one in tree.left_out]
    return "\n".join(map(one_line, lines))


def plain(tree: CodeTree) -> dict[str, Any]:
    return {
        "root": str(tree.root),
        "revision": tree.revision,
        "bytes": tree.size,
        "files": [{"path": entry.path, "bytes": entry.size} for entry in tree.entries],
        "left_out": [{"path": one.path, "reason": one.reason} for one in tree.left_out],
    }


def size(count: int) -> str:
    """``812 bytes``, ``3.4 MiB``."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} bytes" if unit == 0 else f"{value:.1f} {UNITS[unit]}"


def _named(left_out: tuple[LeftOut, ...], reason: str) -> str:
    paths = [one.path for one in left_out if one.reason == reason]
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(paths[:NAMED]) + more
