"""The archive: the same bytes every time, and complete."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

from provisioner.agent.bundle import _build, archive, build_bundle


def test_same_content_gives_the_same_bytes():
    files = {"b.py": b"2", "a.py": b"1", "__main__.py": b"0"}
    assert archive(files) == archive(dict(reversed(files.items())))
    _build.cache_clear()
    first = build_bundle()
    _build.cache_clear()
    assert build_bundle() == first
    assert first.digest == hashlib.sha256(first.data).hexdigest()


def test_content_is_complete_and_dates_are_fixed():
    with zipfile.ZipFile(io.BytesIO(build_bundle().data)) as bundle:
        names = bundle.namelist()
        assert names == sorted(names)
        assert {"__main__.py", "pynvml.py", "remote_agent/server.py"} <= set(names)
        assert not any("__pycache__" in name for name in names)
        assert {info.date_time[0] for info in bundle.infolist()} == {1980}


def test_repr_does_not_spill_the_archive():
    assert len(repr(build_bundle())) < 200


def test_wrong_usage_prints_on_stderr_only(tmp_path):
    path = tmp_path / "agent.pyz"
    path.write_bytes(build_bundle().data)
    done = subprocess.run(
        [sys.executable, "-I", str(path), "dance"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"usage" in done.stderr


def test_many_threads_that_ask_at_once_build_one(monkeypatch):
    built = []

    def slowly(files):
        built.append(1)
        time.sleep(0.02)  # long enough for the other threads to come in
        return b"zip"

    monkeypatch.setattr("provisioner.agent.bundle.archive", slowly)
    _build.cache_clear()
    try:
        with ThreadPoolExecutor(8) as pool:
            digests = set(pool.map(lambda _: build_bundle().digest, range(32)))
    finally:
        _build.cache_clear()
    assert (len(digests), len(built)) == (1, 1)
