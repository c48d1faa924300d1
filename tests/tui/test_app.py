"""The dashboard as a user meets it."""

from __future__ import annotations

import asyncio
import time

import pytest

from provisioner.errors import AgentError, ConnectError
from remote_agent.protocol.job import QUEUED, SUCCEEDED, Verdict
from tests.tui.fakes import FakeAgent, HangingConnect, gpu, job, sample
from tui.feeds import Backoff

RARELY = Backoff(first_s=3600, most_s=3600, jitter=0)


def refusing(reason: str = "connection refused") -> FakeAgent:
    agent = FakeAgent()
    agent.refuse = ConnectError(reason, remedy="start sshd")
    return agent


def training(log: bytes = b"step 1\n", **values: object) -> FakeAgent:
    return FakeAgent(job(**values), logs={"job-one": log})  # type: ignore[arg-type]


async def test_one_host_is_shown_while_another_is_offline(board) -> None:
    agents = {"gpu01": training(), "gpu02": refusing()}
    async with board(agents, backoff=RARELY) as b:
        await b.until(lambda: b.app.fleet.is_settled)
        await b.until(lambda: "97%" in b.text())
        text = b.text()
        assert "1 of 2 hosts" in text
        assert "RTX 4090" in text
        assert "connection refused" in text
        assert "try: start sshd" in text


async def test_a_host_that_went_away_shows_no_values(board) -> None:
    agent = training()
    async with board({"gpu01": agent}, backoff=RARELY) as b:
        await b.until(lambda: "97%" in b.text())
        agent.refuse = ConnectError("down")
        agent.cut()
        await b.until(lambda: "offline" in b.text())
        assert "97%" not in b.text()
        assert "the link broke" in b.text()


async def test_retry_now(board) -> None:
    agent = refusing()
    async with board({"gpu01": agent}, backoff=RARELY) as b:
        await b.until(lambda: "connection refused" in b.text())
        agent.refuse = None
        await b.press("r")
        await b.until(lambda: "97%" in b.text())


async def test_the_selected_jobs_log_is_followed(board) -> None:
    agent = training(b"step 1\n")
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        agent.append("job-one", b"\r 10%|#\r 20%|##")
        await b.until(lambda: b.log_lines == ["step 1", " 20%|##"])
        assert "following" in b.log_title
        assert " 20%|##" in b.text()
        agent.finish("job-one", SUCCEEDED, Verdict("success", 0))
        await b.until(lambda: "ended" in b.log_title)
        assert "succeeded" in b.text()


async def test_the_log_goes_on_at_the_same_byte_after_a_lost_link(board) -> None:
    agent = training(b"a\n")
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["a"])
        for letter in b"bcd":
            agent.cut()
            agent.append("job-one", bytes([letter]) + b"\n")
            await b.until(lambda letter=letter: b.log_lines[-1] == chr(letter))
        assert b.log_lines == ["a", "b", "c", "d"]
        assert agent.reads[0] < 0
        assert all(offset >= 0 for offset in agent.reads[1:])


async def test_scrolling_up_ends_following_and_f_resumes(board) -> None:
    agent = training(b"".join(b"line %d\n" % number for number in range(300)))
    async with board({"gpu01": agent}, size=(80, 24)) as b:
        await b.until(lambda: "line 299" in b.text())
        await b.press("3", "k", "k", "k")
        await b.until(lambda: not b.log.following)
        top = b.log.scroll_offset.y
        shown = [line for line in b.painted() if line.startswith(" line")]
        agent.append("job-one", b"new 1\nnew 2\n")
        await b.until(lambda: "+2 lines" in b.log_title)
        assert b.log.scroll_offset.y == top
        assert [line for line in b.painted() if line.startswith(" line")] == shown
        await b.press("f")
        await b.until(lambda: "new 2" in b.text())
        assert "following" in b.log_title


async def test_a_reader_keeps_the_place_while_old_lines_leave(board) -> None:
    agent = training(b"".join(b"line %d\n" % number for number in range(3000)))
    async with board({"gpu01": agent}, size=(80, 24)) as b:
        await b.until(lambda: "line 2999" in b.text())
        await b.press("3", "pageup")
        await b.until(lambda: not b.log.following)
        shown = [line[:20] for line in b.painted() if line.startswith(" line")]
        more = b"".join(b"more %d\n" % number for number in range(17_200))
        agent.append("job-one", more)
        await b.until(lambda: b.log_lines[-1] == "more 17199")
        assert b.log.buffer.first > 0
        assert [line[:20] for line in b.painted() if line.startswith(" line")] == shown


async def test_choosing_another_job_shows_its_log(board) -> None:
    agent = training()
    agent.records["job-two"] = job("job-two", QUEUED, name="waits")
    agent.logs["job-two"] = b"second\n"
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        await b.press("j")
        await b.until(lambda: b.log_lines == ["second"])
        assert "waits" in b.log_title
        assert "waiting for its turn" in b.log_title


async def test_the_cursor_stays_on_its_job_when_others_come(board) -> None:
    agent = training()
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        await b.press("j", "k")
        newer = [job(f"a-new-{number}", name="newer") for number in range(3)]
        agent.push((job(), *newer))
        await b.until(lambda: len(b.jobs.rows) == 4)
        assert b.jobs.cursor == 3
        assert b.jobs.key.job_id == "job-one"
        assert b.log_lines == ["step 1"]


async def test_an_ended_job_gives_way_to_a_running_one_until_somebody_chooses(board) -> None:
    agent = FakeAgent(job("old", SUCCEEDED), logs={"old": b"old\n", "new": b"new\n"})
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["old"])
        agent.records["new"] = job("new")
        agent.push(tuple(agent.records.values()))
        await b.until(lambda: b.log_lines == ["new"])


async def test_enter_opens_the_log_full_screen_and_escape_returns(board) -> None:
    async with board({"gpu01": training()}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        small = b.log.size.height
        await b.press("enter")
        await b.until(lambda: b.log.size.height > small)
        assert "RTX 4090" not in b.text()
        await b.press("escape")
        await b.until(lambda: "RTX 4090" in b.text())
        assert b.app.focused is b.jobs


async def test_the_filter_shows_matching_lines_only_and_escape_clears_it(board) -> None:
    agent = training(b"loss 1\nnoise\nloss 2\n")
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: len(b.log_lines) == 3)
        await b.press("slash", *"loss")
        await b.until(lambda: b.log.rows == 2)
        assert "noise" not in b.text()
        await b.press("enter")
        assert b.app.focused is b.log
        agent.append("job-one", b"noise again\nloss 3\n")
        await b.until(lambda: b.log.rows == 3)
        await b.press("escape")
        await b.until(lambda: b.log.rows == 5)
        await b.press("slash", "exclamation_mark", *"loss")
        await b.until(lambda: b.log.rows == 2)
        await b.press("escape")
        await b.until(lambda: b.log.rows == 5)


async def test_wrapping_long_lines(board) -> None:
    agent = training(b"x" * 300 + b"END\n")
    async with board({"gpu01": agent}, size=(80, 24)) as b:
        await b.until(lambda: b.log_lines)
        assert "END" not in b.text()
        await b.press("w")
        await b.until(lambda: "END" in b.text())
        await b.press("w")
        await b.until(lambda: "END" not in b.text())


async def test_copying_what_is_in_sight_or_selected(board) -> None:
    agent = training(b"".join(b"line %d\n" % number for number in range(300)))
    async with board({"gpu01": agent}, size=(80, 24)) as b:
        await b.until(lambda: "line 299" in b.text())
        await b.press("c")
        assert b.app.clipboard.splitlines()[-1] == "line 299"
        assert len(b.app.clipboard.splitlines()) == b.log.size.height
        await b.press("3", "g")
        await b.until(lambda: "line 0" in b.text())
        await b.pilot.mouse_down(b.log, offset=(1, 0))
        await b.pilot.hover(b.log, offset=(4, 2))
        await b.pilot.mouse_up(b.log, offset=(4, 2))
        await b.press("c")
        assert b.app.clipboard == "line 0\nline 1\nline"


async def test_stop_asks_first(board) -> None:
    agent = training()
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        await b.press("ctrl+d")
        await b.until(lambda: "Stop finetune?" in b.text())
        await b.press("enter")
        await b.until(lambda: "Stop finetune?" not in b.text())
        assert agent.stops == []
        await b.press("ctrl+d", "y")
        await b.until(lambda: "stopped" in b.text())
        assert agent.stops == [("job-one", 10.0)]


async def test_stop_is_about_the_job_under_the_cursor(board) -> None:
    agent = training()
    agent.records["job-two"] = job("job-two", SUCCEEDED)
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        await b.pilot.press("j", "k", "ctrl+d")
        await b.until(lambda: "job-one on gpu01" in b.text())
        await b.press("escape")
        await b.pilot.press("j", "ctrl+d")
        await b.pilot.pause()
        assert not b.app.screen.is_modal


async def test_kill_has_no_grace(board) -> None:
    agent = training()
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        await b.press("ctrl+k")
        await b.until(lambda: "Kill finetune?" in b.text())
        await b.press("y")
        await b.until(lambda: agent.stops == [("job-one", 0.0)])


async def test_why_a_stop_failed_is_said(board) -> None:
    agent = training()
    agent.stop_error = AgentError("not [your] job", remedy="ask ada")
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        await b.press("ctrl+d", "y")
        await b.until(lambda: "not [your] job" in b.text())
        assert "ask ada" in b.text()


@pytest.mark.parametrize("key", ["ctrl+d", "ctrl+k"])
async def test_readonly_changes_nothing(board, key: str) -> None:
    agent = training()
    async with board({"gpu01": agent}, readonly=True) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        assert "READ-ONLY" in b.text()
        await b.press(key, "y")
        assert "?" not in b.app.screen.query("ConfirmDialog").__class__.__name__
        assert not b.app.screen.is_modal
        assert agent.stops == []


async def test_ended_jobs_cannot_be_stopped(board) -> None:
    async with board({"gpu01": training(state=SUCCEEDED)}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        await b.press("ctrl+d")
        assert not b.app.screen.is_modal


async def test_describe_says_why_a_job_failed(board) -> None:
    verdict = Verdict("cuda-out-of-memory", 1, evidence="tried [to] allocate", hint="less batch")
    async with board({"gpu01": training(state="failed", verdict=verdict)}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        await b.press("d")
        await b.until(lambda: "tried [to] allocate" in b.text())
        assert "less batch" in b.text()
        await b.press("escape")
        assert not b.app.screen.is_modal


async def test_a_gpu_leads_to_its_details_or_to_its_jobs_log(board) -> None:
    agent = training()
    agent.records["other"] = job("other", name="other")
    agent.logs["other"] = b"other log\n"
    agent.first_items = [sample(gpu(0), gpu(1, job_id="other"))]
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: "97%" in b.text())
        await b.press("1", "j", "enter")
        await b.until(lambda: "GPU 0 of gpu01" in b.text())
        await b.press("escape", "j", "enter")
        await b.until(lambda: b.log_lines == ["other log"])


async def test_help_lists_every_key_and_says_what_is_off(board) -> None:
    async with board({"gpu01": training()}, readonly=True, size=(100, 60)) as b:
        await b.until(lambda: b.log_lines)
        await b.press("question_mark")
        await b.until(lambda: "Stop the selected job" in b.text())
        assert "off: --readonly" in b.text()
        await b.press("escape")
        assert not b.app.screen.is_modal


async def test_the_palette_runs_an_action(board) -> None:
    async with board({"gpu01": training()}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        await b.press("ctrl+p", *"describe")
        await b.until(lambda: "Say everything" in b.text())
        await b.pilot.pause(0.2)
        await b.press("enter")
        await b.until(lambda: "Job finetune" in b.text())


async def test_nothing_destructive_is_on_a_bare_letter(board) -> None:
    agent = training()
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        for key in "abcdefghijklmnoprstuvwxyz":
            await b.press(key)
            await b.press("escape")
        assert agent.stops == []


async def test_quit_is_prompt_while_a_host_hangs(board) -> None:
    hanging = HangingConnect()
    began = None
    async with board({"gpu01": training(), "gpu02": hanging}) as b:
        await b.until(lambda: b.log_lines == ["step 1"])
        assert hanging.called.is_set()
        assert "connecting" in b.text()
        await b.press("q")
        began = time.monotonic()
    assert b.app.return_code == 0
    assert time.monotonic() - began < 1.0
    hanging.release.set()


async def test_a_hanging_host_does_not_slow_the_others(board) -> None:
    hanging = [HangingConnect() for _ in range(5)]
    agents = {f"bad{number}": each for number, each in enumerate(hanging)}
    async with board({**agents, "good": training()}) as b:
        await b.until(lambda: "97%" in b.text())
    for each in hanging:
        each.release.set()


async def test_no_hosts_says_what_to_do(board) -> None:
    async with board({}) as b:
        await b.until(lambda: "inventory/hosts.yaml" in b.text())


async def test_no_jobs_says_how_to_start_one(board) -> None:
    async with board({"gpu01": FakeAgent()}) as b:
        await b.until(lambda: "invoke train --script" in b.text())
        await b.press("ctrl+d", "d", "enter", "f", "w", "slash")
        assert not b.app.screen.is_modal


async def test_simulated_gpus_are_marked(board) -> None:
    agent = training()
    agent.first_items = [sample(gpu(0, simulated=True), gpu(1))]
    async with board({"gpu01": agent}, size=(80, 24)) as b:
        await b.until(lambda: "97%" in b.text())
        lines = b.painted()
        assert "SIMULATED" in lines[0]
        assert sum("SIMULATED" in line for line in lines) == 2


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60), (40, 10), (20, 5)])
async def test_it_fits_every_terminal(board, size: tuple[int, int]) -> None:
    agents = {"gpu01": training(b"line\n" * 99), "gpu02": refusing("no route to host " * 20)}
    async with board(agents, size=size) as b:
        await b.until(lambda: b.app.fleet.is_settled and b.log_lines)
        lines = b.painted()
        assert len(lines) == size[1]
        if size[0] >= 80:
            assert "rigup" in lines[0]
            for words in ("Fleet", "Jobs", "Log", "97%", "finetune", "line", "help", "quit"):
                assert words in b.text()


async def test_a_hostile_host_cannot_write_to_the_terminal(board) -> None:
    evil = "[b]x[/b]\x1b]0;owned\x07\u202e\ud800"
    agent = FakeAgent(
        job(name=evil, verdict=Verdict(evil, evidence=evil, hint=evil), state="failed"),
        logs={"job-one": b"\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b31mlog\n"},
    )
    agent.first_items = [sample(gpu(name=evil))]
    async with board({"gpu01": agent}) as b:
        await b.until(lambda: b.log_lines and "97%" in b.text())
        for keys in ("d", "escape", "1", "d"):
            await b.press(keys)
            text = b.text()
            text.encode()
            assert not any(bad in text for bad in "\x1b\x07\u202e\ud800\x9b")


async def test_many_jobs_and_heavy_output_keep_up(board) -> None:
    agent = training()
    for number in range(300):
        agent.records[f"job-{number}"] = job(f"job-{number}", SUCCEEDED)
    async with board({"gpu01": agent}, size=(80, 24)) as b:
        await b.until(lambda: b.log_lines)
        for number in range(50):
            agent.append("job-one", b"".join(b"%d %d\n" % (number, row) for row in range(1000)))
        await b.until(lambda: b.log_lines[-1] == "49 999")
        await asyncio.sleep(0)
        assert "49 999" in b.text()
