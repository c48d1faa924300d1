"""Code snapshots and outputs through a real agent."""

from __future__ import annotations

import hashlib
import io
import os

import pytest

from provisioner.agent import client as client_module
from provisioner.errors import AgentError
from remote_agent.protocol.snapshot import SnapshotEntry, canonical


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(agent, files: dict[str, bytes], links: dict[str, str] | None = None) -> str:
    wanted = {digest(data): data for data in files.values()}
    absent = agent.missing_blobs(wanted)
    agent.put_blobs((name, wanted[name]) for name in absent)
    entries = [
        SnapshotEntry(path, 0o755 if path.endswith(".sh") else 0o644, digest(data), len(data))
        for path, data in files.items()
    ]
    entries += [SnapshotEntry(path, target=target) for path, target in (links or {}).items()]
    return agent.put_manifest(entries)


def test_a_job_runs_its_own_frozen_copy(agent, bench, shell, finished):
    files = {"run.sh": b"#!/bin/sh\ncat conf/a.txt link\n", "conf/a.txt": b"A", "empty": b""}
    snapshot = put(agent, files, {"link": "conf/a.txt"})
    agent.submit(shell("job-code", "./run.sh; echo changed > conf/a.txt", snapshot=snapshot))
    finished(agent, "job-code")
    assert agent.read_log("job-code", 0).data == b"AA"
    agent.submit(shell("job-again", "./run.sh; test -e empty", snapshot=snapshot))
    assert finished(agent, "job-again").state == "succeeded"
    assert agent.read_log("job-again", 0).data == b"AA", "the first job wrote to its own copy"
    assert (bench.job_dir("job-code") / "work/outputs").is_symlink()


def test_a_snapshot_may_have_its_own_outputs(agent, shell, finished, bench):
    snapshot = put(agent, {"outputs/readme": b"mine"})
    agent.submit(shell("job-own", "cat outputs/readme", snapshot=snapshot))
    finished(agent, "job-own")
    assert agent.read_log("job-own", 0).data == b"mine"


@pytest.mark.parametrize("target", ["results", "/nowhere/results"])
def test_results_are_kept_where_the_code_has_a_link(agent, shell, finished, bench, target):
    snapshot = put(agent, {"results/old": b"old"}, {"outputs": target})
    agent.submit(shell("job-linked", "echo new > outputs/new", snapshot=snapshot))
    assert finished(agent, "job-linked").state == "succeeded"
    assert [found.path for found in agent.list_outputs("job-linked")] == ["new"]


def test_only_what_is_missing_travels(agent):
    put(agent, {"a": b"one", "b": b"two"})
    absent = agent.missing_blobs([digest(b"one"), digest(b"three"), digest(b"three")])
    assert absent == (digest(b"three"),)


def test_manifest_digest_is_the_hash_of_its_listing(agent):
    entries = [SnapshotEntry("b", target="a"), SnapshotEntry("a", 0o600, digest(b""), 0)]
    agent.put_blob(digest(b""), b"")
    assert agent.put_manifest(entries) == digest(canonical(entries))


def test_big_blob_resumes_where_it_broke_off(agent, monkeypatch):
    monkeypatch.setattr(client_module, "PART", 1000)
    data = os.urandom(10_500)
    name = digest(data)
    first = agent._link.begin(
        "put_blob", {"digest": name, "offset": 0, "final": False}, data[:4000]
    )
    agent._link.finish(first)
    assert agent.partial_blobs([name]) == {name: 4000}
    agent.put_blob(name, io.BytesIO(data), offset=4000)
    assert agent.missing_blobs([name]) == ()


def test_damaged_upload_is_refused_and_forgotten(agent):
    name = digest(b"right")
    with pytest.raises(AgentError) as caught:
        agent.put_blob(name, b"wrong")
    assert caught.value.code == "digest-mismatch"
    assert agent.partial_blobs([name]) == {name: 0}
    with pytest.raises(AgentError) as caught:
        agent._link.call("put_blob", {"digest": name, "offset": 3, "final": True}, b"ht")
    assert caught.value.code == "wrong-offset"


def test_manifest_needs_its_blobs(agent):
    entry = SnapshotEntry("a.py", 0o644, digest(b"not sent"), 8)
    with pytest.raises(AgentError, match=r"a\.py") as caught:
        agent.put_manifest([entry])
    assert caught.value.code == "missing-blobs"


def test_agent_checks_manifests_itself(agent):
    from remote_agent.protocol.messages import to_payload

    rows = [{"path": "../escape", "target": "x"}]
    with pytest.raises(AgentError) as caught:
        agent._link.call("put_manifest", payload=to_payload(rows))
    assert caught.value.code == "bad-manifest"


def test_damaged_blob_stops_the_job_and_heals_by_resending(agent, bench, shell, finished):
    snapshot = put(agent, {"a.txt": b"precious"})
    name = digest(b"precious")
    blob = bench.state_dir / "blobs" / name[:2] / name
    blob.chmod(0o600)
    blob.write_bytes(b"rotten!!")
    agent.submit(shell("job-rot", "cat a.txt", snapshot=snapshot))
    record = finished(agent, "job-rot")
    assert record.verdict.cause == "could-not-start"
    assert "a.txt" in record.verdict.evidence
    assert agent.missing_blobs([name]) == (name,)


def test_an_emptied_blob_heals_when_sizes_are_told(agent, bench):
    put(agent, {"a.txt": b"precious"})
    name = digest(b"precious")
    os.truncate(bench.state_dir / "blobs" / name[:2] / name, 0)
    assert agent.missing_blobs([name], {name: 8}) == (name,)
    put(agent, {"a.txt": b"precious"})
    assert agent.missing_blobs([name], {name: 8}) == ()


def test_outputs_are_listed_and_read(agent, shell, finished):
    script = "cd outputs; mkdir ckpt; printf 0123456789 > ckpt/m.bin; echo > log.txt"
    agent.submit(shell("job-out", script))
    finished(agent, "job-out")
    assert [(found.path, found.size) for found in agent.list_outputs("job-out")] == [
        ("ckpt/m.bin", 10),
        ("log.txt", 1),
    ]
    assert agent.read_output("job-out", "ckpt/m.bin", 3, 4).data == b"3456"
    assert agent.read_output("job-out", "ckpt/m.bin", 10, 4).data == b""


def test_more_outputs_than_one_answer_holds(agent, shell, finished):
    script = "cd outputs; i=0; while [ $i -lt 10003 ]; do : > $i; i=$((i+1)); done"
    agent.submit(shell("job-many", script))
    finished(agent, "job-many")
    listed = [found.path for found in agent.list_outputs("job-many")]
    assert listed == sorted(str(number) for number in range(10003))


@pytest.mark.parametrize(
    "path", ["secret", "dir/secret", "../spec.json", "/etc/passwd", "a/../../spec.json", "", "."]
)
def test_outputs_confine_reading(agent, shell, finished, tmp_path, path):
    (tmp_path / "secret").write_text("secret")
    script = f"cd outputs; ln -s {tmp_path}/secret secret; ln -s {tmp_path} dir"
    agent.submit(shell("job-link", script))
    finished(agent, "job-link")
    assert {found.kind for found in agent.list_outputs("job-link")} == {"symlink"}
    with pytest.raises(AgentError) as caught:
        agent.read_output("job-link", path)
    assert caught.value.code in ("outside-outputs", "no-such-output")


def test_results_behind_a_link_of_the_programs_own_are_named(agent, shell, finished, tmp_path):
    script = f"rm outputs; ln -s {tmp_path} outputs; echo x > outputs/model"
    agent.submit(shell("job-away", script))
    finished(agent, "job-away")
    [found] = agent.list_outputs("job-away")
    assert (found.path, found.kind) == ("outputs", "skipped")
    assert str(tmp_path) in found.reason
