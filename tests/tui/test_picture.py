from __future__ import annotations

import sys
from pathlib import Path

import pytest

import tui
from provisioner.errors import ConnectError, UsageError
from tests.tui.fakes import FakeAgent, HangingConnect, gpu, host, job, sample


def connect_to(**agents: FakeAgent | HangingConnect):
    def connect(asked):
        agent = agents[asked.name]
        return agent(asked) if isinstance(agent, HangingConnect) else agent.connect(asked)

    return [host(name) for name in agents], connect


def fleet():
    good, bad = FakeAgent(job(), logs={"job-one": b"step 1\n"}), FakeAgent()
    good.first_items = [sample(gpu(simulated=True))]
    bad.refuse = ConnectError("connection refused")
    return connect_to(gpu01=good, gpu02=bad)


def test_a_picture_shows_every_host_settled(tmp_path: Path) -> None:
    hosts, connect = fleet()
    tui.screenshot(hosts, connect, tmp_path / "new" / "board.svg", settle_s=0.3)
    svg = (tmp_path / "new" / "board.svg").read_text().replace("&#160;", " ")
    for words in ("1 of 2 hosts", "connection refused", "97%", "SIMULATED", "step 1"):
        assert words in svg


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("cairosvg")
    hosts, connect = fleet()
    tui.screenshot(hosts, connect, tmp_path / "board.png", size=(80, 24), settle_s=0.0)
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")


def test_png_without_cairosvg_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    with pytest.raises(UsageError, match="pip install cairosvg"):
        tui.screenshot([], connect_to()[1], tmp_path / "board.png")


def test_another_suffix_is_refused_before_anything_is_connected(tmp_path: Path) -> None:
    hanging = HangingConnect()
    hosts, connect = connect_to(gpu01=hanging)
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        tui.screenshot(hosts, connect, tmp_path / "board.gif")
    assert not hanging.called.is_set()


def test_a_host_that_never_answers_hides_no_other(tmp_path: Path) -> None:
    hanging = HangingConnect()
    hosts, connect = connect_to(gpu01=hanging)
    board = tmp_path / "board.svg"
    assert tui.screenshot(hosts, connect, board, timeout_s=0.1, settle_s=0.0) == 1
    hanging.release.set()
    assert "gpu01" in board.read_text()
