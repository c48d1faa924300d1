"""Words and numbers for the screen. Pure; None is shown as a dash, never as zero."""

from __future__ import annotations

import math
import re
import time

from rich.cells import cell_len, set_cell_size

DASH = "\u2013"
ELLIPSIS = "\u2026"
GIB = 1024**3

UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""C0 and C1 controls, bidirectional overrides, and surrogates (which UTF-8 cannot encode)."""

_SPARK = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def clean(text: object, limit: int = 500) -> str:
    """One safe line of host-supplied text: control characters become spaces."""
    return UNSAFE.sub(" ", str(text)[:limit]).strip()


def clean_lines(text: object, limit: int = 4000) -> list[str]:
    """Host-supplied text as safe lines, without the empty ones."""
    lines = (clean(line) for line in str(text)[:limit].splitlines())
    return [line for line in lines if line]


def fit(text: str, width: int) -> str:
    """Exactly ``width`` terminal cells: padded, or cut with an ellipsis."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + ELLIPSIS


def fit_middle(text: str, width: int) -> str:
    """At most ``width`` cells, cut in the middle: the ends of an id tell it from others."""
    if cell_len(text) <= width or width < 4 or not text.isascii():
        return text
    tail = (width - 1) * 2 // 3
    return text[: width - 1 - tail] + ELLIPSIS + text[-tail:]


def number(value: object) -> float | None:
    """``value`` when it is a finite number; a host may send anything."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def percent(value: object) -> str:
    known = number(value)
    return DASH if known is None else f"{known:.0f}%"


def celsius(value: object) -> str:
    known = number(value)
    return DASH if known is None else f"{known:.0f}\u00b0C"


def watts(power: object, limit: object) -> str:
    """``310/450 W``; a dash for the part that is not available."""
    used, most = number(power), number(limit)
    if used is None and most is None:
        return DASH
    return f"{_whole(used)}/{_whole(most)} W"


def memory(used: object, total: object) -> str:
    """``21.3/24.0 GiB`` from bytes."""
    some, most = number(used), number(total)
    if some is None and most is None:
        return DASH
    return f"{_gib(some)}/{_gib(most)} GiB"


def size(count: object) -> str:
    """``256 KiB`` from a number of bytes."""
    known = number(count)
    if known is None:
        return DASH
    for unit in _UNITS:
        if abs(known) < 1024 or unit == _UNITS[-1]:
            break
        known /= 1024
    return f"{known:.0f} {unit}" if unit == "B" or known >= 100 else f"{known:.1f} {unit}"


def duration(seconds: object) -> str:
    """``42s``, ``3m12s``, ``5h04m``, ``2d03h``."""
    known = number(seconds)
    if known is None:
        return DASH
    total = max(0, int(known))
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m{total % 60:02}s"
    if total < 86_400:
        return f"{total // 3600}h{total % 3600 // 60:02}m"
    return f"{total // 86_400}d{total % 86_400 // 3600:02}h"


def moment(epoch: object, now: float) -> str:
    """A time of day, or a date where it is more than a day ago. Local time zone."""
    known = number(epoch)
    if known is None or not 0 < known < 2**35:
        return DASH
    same_day = abs(now - known) < 86_400
    return time.strftime("%H:%M" if same_day else "%b %d", time.localtime(known))


def fraction(part: object, whole: object) -> float | None:
    """``part / whole`` within 0..1, or None where either is not available."""
    some, most = number(part), number(whole)
    if some is None or most is None or most <= 0:
        return None
    return min(1.0, max(0.0, some / most))


def bar(share: float | None, width: int) -> str:
    """The filled part of a bar of ``width`` cells, in half cells."""
    full, half = divmod(0 if share is None else round(share * width * 2), 2)
    return "\u2501" * full + ("\u2578" if half else "")


def sparkline(values: tuple[float | None, ...], top: float, width: int) -> str:
    """The newest ``width`` values, newest at the right; never full height, so lines keep apart."""
    return "".join(_spark(value, top) for value in values[-width:]).rjust(width)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _spark(value: float | None, top: float) -> str:
    share = fraction(value, top)
    return " " if share is None else _SPARK[min(6, int(share * 7))]


def _whole(value: float | None) -> str:
    return DASH if value is None else f"{value:.0f}"


def _gib(value: float | None) -> str:
    if value is None:
        return DASH
    shown = value / GIB
    return f"{shown:.0f}" if shown >= 100 else f"{shown:.1f}"
