from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from remote_agent.protocol.job import FAILED, QUEUED, RUNNING, Verdict
from remote_agent.protocol.sample import GpuProcess, GpuSample, Sample
from tests.tui.fakes import GIB, NOW, gpu, job, sample
from tui.rows import Row
from tui.state import FleetState, HostConnecting, HostOffline, HostOnline, SampleArrived, reduce
from tui.views.describe import describe
from tui.views.fleet import Clock, GpuKey, HostKey, fleet_layout, fleet_rows, summary
from tui.views.jobs import job_layout, job_rows
from tui.views.panels import share_height

CLOCK = Clock(now=100.0, wall=NOW)
HOSTILE = "[red]x[/] \x1b[31m\x07\u202e\ud800\n@click=app.quit()"


def fleet(shown: Sample, *jobs: object, at: float = 100.0) -> FleetState:
    state = FleetState.of(["gpu01"])
    state = reduce(state, HostOnline("gpu01", jobs))  # type: ignore[arg-type]
    return reduce(state, SampleArrived("gpu01", shown, at=at, wall=NOW))


def lines(rows: list[Row]) -> list[str]:
    return [row.text.rstrip() for row in rows]


def gpu_line(shown: GpuSample, width: int = 120) -> str:
    return fleet_rows(fleet(sample(shown)), CLOCK, width)[1].text


@pytest.mark.parametrize("width", [80, 100, 140, 200])
def test_every_gpu_row_fits_and_lines_up_with_the_header(width: int) -> None:
    state = fleet(sample(gpu(0, simulated=True), gpu(1, name="NVIDIA H100 80GB HBM3 " * 4)))
    header = "".join(text for text, _ in fleet_layout(state, width).header())
    rows = fleet_rows(state, CLOCK, width)
    assert all(cell_len(row.text) <= width for row in rows)
    assert len({cell_len(row.text) for row in rows[1:]} | {cell_len(header)}) == 1
    for row in rows[1:]:
        assert row.text.index("97%") + 3 == header.index("UTIL") + 4
        assert "310/450" in row.text
        assert "71\u00b0C" in row.text
        assert "1 ada" in row.text


def test_not_available_is_a_dash_never_zero() -> None:
    bare = GpuSample(index=0, uuid="u", name="NVIDIA T4")
    text = gpu_line(bare)
    assert "0%" not in text
    assert "0.0" not in text
    assert text.count("\u2013") >= 5


def test_a_real_zero_is_zero() -> None:
    text = gpu_line(gpu(utilization=0, memory_used=0, power=0.0, temperature=0))
    assert " 0%" in text
    assert "0.0/24.0" in text
    assert "0/450 W" in text


def test_simulated_stands_on_the_gpus_own_row_at_any_width() -> None:
    for width in (80, 120, 200):
        assert "SIMULATED" in gpu_line(gpu(simulated=True), width)
        assert "SIMULATED" in gpu_line(gpu(simulated=True, name="H100 " * 20), width)
        assert "SIMULATED" not in gpu_line(gpu(), width)


def test_a_gpus_job_is_named_and_its_users_are_listed() -> None:
    used = gpu(
        job_id="job-one",
        processes=(GpuProcess(1, user="zoe"), GpuProcess(2, user="ada"), GpuProcess(3)),
    )
    text = fleet_rows(fleet(sample(used), job()), CLOCK, 140)[1].text
    assert "finetune" in text
    assert "3 ada,zoe" in text


def test_an_error_of_one_gpu_is_said_on_its_row() -> None:
    assert "fell off the bus" in gpu_line(gpu(error="GPU fell off the bus"))


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (sample(), "no NVIDIA GPU"),
        (sample(gpu_error="NVML: driver not loaded"), "NVML: driver not loaded"),
    ],
)
def test_a_host_without_gpu_figures_says_why(shown: Sample, words: str) -> None:
    assert words in lines(fleet_rows(fleet(shown), CLOCK, 80))[1]


def test_the_age_of_a_sample_is_shown_when_it_grows() -> None:
    fresh = fleet_rows(fleet(sample(), at=99.5), CLOCK, 80)[0].text
    old = fleet_rows(fleet(sample(), at=58.0), CLOCK, 80)[0].text
    assert "now" in fresh
    assert "42s old" in old


@pytest.mark.parametrize("width", [80, 160])
def test_an_offline_host_says_why_and_what_to_try(width: int) -> None:
    state = fleet(sample(gpu()))
    state = reduce(state, HostOffline("gpu01", "no route " * 9, "ping gpu01", retry_at=107.0))
    text = " ".join("\n".join(lines(fleet_rows(state, CLOCK, width))).split())
    assert ("no route " * 9).strip() in text
    assert "try: ping gpu01" in text
    assert "next try in 7s" in text
    assert "97%" not in text
    again = reduce(state, HostConnecting("gpu01"))
    assert "trying again" in fleet_rows(again, CLOCK, width)[0].text


def test_hostile_text_is_plain_text() -> None:
    shown = sample(gpu(name=HOSTILE, error=None, processes=(GpuProcess(1, user=HOSTILE),)))
    odd = job(name=HOSTILE, verdict=Verdict(HOSTILE, evidence=HOSTILE, hint=HOSTILE))
    state = reduce(fleet(shown, odd), HostOnline("gpu01", (odd,)))
    state = reduce(state, SampleArrived("gpu01", shown, 100.0, NOW))
    rows = fleet_rows(state, CLOCK, 140) + job_rows(state, CLOCK, 140)
    _, described = describe(state, job_rows(state, CLOCK, 140)[0].key, CLOCK) or ("", [])
    offline = reduce(state, HostOffline("gpu01", HOSTILE, HOSTILE))
    rows += fleet_rows(offline, CLOCK, 140)
    everything = lines(rows) + ["".join(text for text, _ in line) for line in described]
    for text in everything:
        assert not any(bad in text for bad in "\x1b\x07\u202e\ud800\n")
        text.encode()
    assert "[red]x[/]" in "".join(everything)


def test_figures_of_the_wrong_type_do_not_break_the_table() -> None:
    odd = gpu(utilization="many", power=float("nan"), temperature=True, memory_used="x")
    state = fleet(replace(sample(odd), host=replace(sample().host, cpu="x", load1=[])))
    assert "\u2013" in fleet_rows(state, CLOCK, 140)[1].text


@pytest.mark.parametrize("room", [20, 40, 62, 120])
def test_the_summary_fits(room: int) -> None:
    state = fleet(sample(gpu()), job(), job("two", QUEUED))
    text = "".join(piece for piece, _ in summary(state, room))
    assert text.startswith("1 of 1 host")
    assert len(text) <= room
    assert ("1 job running, 1 queued" in text) == (room >= 40)
    assert ("1 of 1 GPU in use" in text) == (room >= 62)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_job_rows_fit_and_line_up(width: int) -> None:
    long = job("a-very-long-id-20260102-abcdef", name="a name that goes on and on and on")
    failed = job("two", FAILED, ended_at=NOW - 30, verdict=Verdict("exit-code", 3))
    state = fleet(sample(), long, failed)
    rows = job_rows(state, CLOCK, width)
    header = "".join(text for text, _ in job_layout(state, width).header())
    assert {cell_len(row.text) for row in rows} == {cell_len(header)}
    assert len(header) <= width
    assert "abcdef" in rows[0].text
    assert "1m30s" in rows[0].text
    assert "1m00s" in rows[1].text
    assert "exit code 3" in rows[1].text


def test_times_are_by_the_hosts_clock() -> None:
    state = reduce(FleetState.of(["a"]), HostOnline("a", (job(),)))
    state = reduce(state, SampleArrived("a", sample(taken_at=NOW), 100.0, wall=NOW - 3600))
    row = job_rows(state, Clock(100.0, NOW - 3600), 120)[0]
    assert "1m30s" in row.text


def test_a_job_on_an_offline_host_is_unknown_unless_it_had_ended() -> None:
    done = job("done", FAILED, ended_at=NOW, verdict=Verdict("xid"))
    state = reduce(fleet(sample(), job(), done), HostOffline("gpu01", "x"))
    running, ended = lines(job_rows(state, CLOCK, 120))
    assert "unknown" in running
    assert "host offline" in running
    assert RUNNING not in running
    assert "failed" in ended
    assert "xid" in ended


def test_describing_a_job_gives_the_verdict_with_its_evidence_and_hint() -> None:
    verdict = Verdict("cuda-out-of-memory", 1, None, "Tried to allocate\n2 GiB", "smaller batch")
    state = fleet(sample(), job(state=FAILED, verdict=verdict))
    key = job_rows(state, CLOCK, 80)[0].key
    title, shown = describe(state, key, CLOCK) or ("", [])
    text = "\n".join("".join(piece for piece, _ in line) for line in shown)
    assert title == "Job finetune"
    for words in ("cuda out of memory", "Tried to allocate", "2 GiB", "smaller batch", "train.py"):
        assert words in text


def test_environment_values_are_not_shown() -> None:
    secret = job()
    secret = replace(secret, spec=replace(secret.spec, env={"HF_TOKEN": "hf_secret"}))
    state = fleet(sample(), secret)
    _, shown = describe(state, job_rows(state, CLOCK, 80)[0].key, CLOCK) or ("", [])
    text = "".join(piece for line in shown for piece, _ in line)
    assert "HF_TOKEN" in text
    assert "hf_secret" not in text


def test_describing_hosts_and_gpus() -> None:
    state = fleet(sample(gpu(simulated=True, fan=30, pstate=2)))
    _, shown = describe(state, GpuKey("gpu01", 0), CLOCK) or ("", [])
    text = "\n".join("".join(piece for piece, _ in line) for line in shown)
    for words in ("SIMULATED", "30%", "P2", "4242", "20.0 GiB"):
        assert words in text
    assert describe(state, GpuKey("gpu01", 9), CLOCK) is None
    assert describe(state, HostKey("ghost"), CLOCK) is None
    assert describe(state, HostKey("gpu01"), CLOCK) is not None


@pytest.mark.parametrize("total", [5, 10, 22, 40, 58])
@pytest.mark.parametrize("fleet_rows_", [2, 9, 100])
@pytest.mark.parametrize("jobs", [1, 5, 300])
def test_panels_share_the_height(total: int, fleet_rows_: int, jobs: int) -> None:
    heights = share_height(total, fleet_rows_, jobs)
    assert sum(heights) == total
    assert min(heights) >= 0
    assert heights.log >= min(total, 6)
    if total >= 22:
        assert heights.fleet >= 4
        assert heights.jobs >= 3


def test_memory_units() -> None:
    assert "141/141" in gpu_line(gpu(memory_used=141 * GIB, memory_total=141 * GIB))
