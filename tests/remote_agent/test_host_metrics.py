"""The machine's figures from recorded /proc files."""

from __future__ import annotations

import pytest

from remote_agent.metrics.host import HostMeter

STAT = "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n"


@pytest.fixture
def proc(tmp_path):
    (tmp_path / "stat").write_text(STAT.format(busy=100, idle=900))
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n")
    (tmp_path / "loadavg").write_text("1.25 1.00 0.50 1/100 4711\n")
    (tmp_path / "uptime").write_text("3600.50 7000.00\n")
    return tmp_path


def test_figures(proc):
    meter = HostMeter("/", str(proc))
    meter.prime()
    (proc / "stat").write_text(STAT.format(busy=175, idle=925))
    sample = meter.read()
    assert sample.cpu == 75.0
    assert (sample.memory_used, sample.memory_total) == (600 * 1024, 1000 * 1024)
    assert (sample.load1, sample.uptime_s) == (1.25, 3600.5)
    assert 0 < sample.disk_used < sample.disk_total


def test_what_cannot_be_read_is_none_not_zero(tmp_path):
    sample = HostMeter(str(tmp_path / "none"), str(tmp_path)).read()
    figures = (sample.cpu, sample.memory_used, sample.load1, sample.disk_used, sample.uptime_s)
    assert figures == (None,) * 5


def test_a_counter_that_stands_still_gives_none(proc):
    meter = HostMeter("/", str(proc))
    meter.prime()
    assert meter.read().cpu is None
