"""Listings: what must never be written to a host's disk is refused."""

from __future__ import annotations

import pytest

from remote_agent.protocol.snapshot import SnapshotEntry, canonical, check_entries
from remote_agent.protocol.values import ProtocolError

DIGEST = "0" * 64


def entry(path, **others):
    return SnapshotEntry(path, **{"digest": DIGEST, **others})


def test_good_listing_in_any_order_is_the_same():
    entries = [entry("b/c.py", mode=0o755), entry("a"), SnapshotEntry("l", target="../up")]
    check_entries(entries)
    assert canonical(entries) == canonical(entries[::-1])


@pytest.mark.parametrize(
    "entries",
    [
        [entry("/etc/passwd")],
        [entry("../x")],
        [entry("a/../../x")],
        [entry("a//b")],
        [entry("./a")],
        [entry("a/")],
        [entry("")],
        [entry("a\0b")],
        [entry("a"), entry("a")],
        [SnapshotEntry("a", target="/etc"), entry("a/cron.d")],
        [entry("a"), entry("a/b/c")],
        [entry("a", digest=None)],
        [entry("a", digest="../../x")],
        [entry("a", digest="A" * 64)],
        [entry("a", mode=0o4755)],
        [entry("a", mode=-1)],
        [entry("a", mode="0644")],
        [entry("a", size=-1)],
        [SnapshotEntry("a", target="")],
        [entry(7)],
        [entry("d/" * 1100 + "f")],
    ],
)
def test_bad_listings_are_refused(entries):
    with pytest.raises(ProtocolError):
        check_entries(entries)
