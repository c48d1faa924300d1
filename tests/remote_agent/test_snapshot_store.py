"""Blobs: damaged ones heal, and several clients may send the same one."""

from __future__ import annotations

import hashlib
import os

import pytest

from remote_agent.faults import AgentFault
from remote_agent.layout import Layout
from remote_agent.protocol.snapshot import SnapshotEntry
from remote_agent.snapshots import SnapshotStore

DATA = b"precious content"
NAME = hashlib.sha256(DATA).hexdigest()
ENTRY = SnapshotEntry("a.txt", 0o644, NAME, len(DATA))


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(Layout.open(str(tmp_path / "state")))


def put(store, offset=0, data=DATA, final=True):
    for _ in store.put_part(NAME, offset, data, final):
        pass


def damage(store):
    put(store)
    os.truncate(store.layout.blob(NAME), 0)  # what a power cut leaves


def test_a_damaged_blob_is_missing_when_its_size_is_told(store):
    damage(store)
    assert store.missing([NAME]) == {}, "without a size nothing can be seen"
    assert store.missing([[NAME, len(DATA)]]) == {NAME: 0}
    put(store)
    assert store.missing([[NAME, len(DATA)]]) == {}


def test_a_damaged_blob_is_forgotten_when_a_listing_needs_it(store):
    damage(store)
    with pytest.raises(AgentFault) as caught:
        store.put_manifest([ENTRY])
    assert caught.value.code == "missing-blobs"
    assert store.missing([NAME]) == {NAME: 0}
    put(store)
    assert store.put_manifest([ENTRY])


def test_bytes_are_durable_before_they_get_their_name(store, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda fd: done.append("fsync"))
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda *paths: done.append("rename") or real(*paths))
    put(store)
    assert done == ["fsync", "rename"]


def test_two_clients_that_send_the_same_blob_do_not_disturb_each_other(store):
    put(store, 0, DATA[:8], final=False)
    put(store, 0, DATA[:4], final=False)  # the second client begins
    put(store, 8, DATA[8:])
    put(store, 4, DATA[4:])
    assert store.missing([[NAME, len(DATA)]]) == {}
    assert os.listdir(store.layout.partial) == []


def test_while_one_client_is_being_checked_another_waits_and_is_done(store):
    first = store.put_part(NAME, 0, DATA, True)
    next(first)  # in the middle of hashing
    second = store.put_part(NAME, 0, DATA, True)
    assert next(second) > 0.0, "it waits without blocking the loop"
    assert list(first) == []
    assert list(second) == []
    assert store.missing([[NAME, len(DATA)]]) == {}
    assert os.listdir(store.layout.partial) == []


@pytest.mark.parametrize("row", [5, None, [NAME], [NAME, 1, 2], ["x", 1], {}, "../x"])
def test_nonsense_is_refused(store, row):
    with pytest.raises(AgentFault) as caught:
        store.missing([row])
    assert caught.value.code == "bad-request"
