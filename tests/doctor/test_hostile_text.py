"""Logs of any size and content: bounded memory and time, and nothing of them reaches a terminal."""

from __future__ import annotations

import io
import time
import tracemalloc
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from provisioner.doctor import textlog
from provisioner.doctor.phrases import GAP, Phrase
from provisioner.doctor.report import log_text
from provisioner.doctor.scan import scan_stream
from provisioner.doctor.signatures import signatures

MEGABYTE = 1 << 20
PIECES = sorted({piece for one in signatures() for phrase in one.says for piece in phrase.pieces})


class Endless(io.RawIOBase):
    """``total`` bytes made of one pattern, without ever holding them."""

    def __init__(self, pattern: bytes, total: int) -> None:
        self._block = pattern * (textlog.CHUNK // len(pattern) + 1)
        self._left = total

    def read(self, size: int = -1) -> bytes:
        part = self._block[: min(size, self._left)]
        self._left -= len(part)
        return part


HOSTILE = [
    b"\x00",
    b"\xff\xfe",
    b"\x1b[",
    b"\x1b[" + b"0;" * 500,
    b"\n",
    b"\r",
    b"a",
    b"nvidia-smi ",
    b"nvidia-smi status ",
    b"could not select device driver ",
    b"could not select device driver with capabilities: [[gpu",
    b"with capabilities: [[ gpu could not select device driver ",
    b"libnvidia- .so. : no such file",
    b"NVRM: Xid (PCI:0000:05:00): 79, x\n",
    b"NVIDIA Container Toolkit CLI version 1.1.1 ",
    b"nvidia-container-toolkit" + b" " * 60,
    b"[Mon Nov ",
    b"12:34:56 ",
]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_two_megabytes_of_anything_take_seconds_and_little_memory(pattern: bytes) -> None:
    tracemalloc.start()
    started = time.process_time()
    found = scan_stream(Endless(pattern, 2 * MEGABYTE), "log")  # type: ignore[arg-type]
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 20, f"{seconds:.1f} s (with memory tracing)"
    assert peak < 8 * MEGABYTE
    assert len(found) < 20


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from(PIECES).map(lambda piece: piece.encode())
        | st.sampled_from(
            [b"\x1b]0;title\x07", b"\x9b31m", b"\r", b"\n", b"\xe2\x80\xae", b"\x00"]
        ),
        max_size=12,
    ).map(b"".join)
)
@example(b"\x1b]0;owned\x07No devices were found\x1b[2J")
def test_whatever_a_log_holds_nothing_of_it_controls_the_terminal(text: bytes) -> None:
    shown = log_text(scan_stream(io.BytesIO(text), "a\x1b[31mb"), "a\x1b[31mb")
    kinds = {unicodedata.category(character) for character in shown.replace("\n", "")}
    assert not kinds & {"Cc", "Cf", "Cs"}


@settings(max_examples=100, deadline=None)
@given(
    phrase=st.sampled_from([phrase for one in signatures() for phrase in one.says]),
    before=st.integers(0, 3 * textlog.CHUNK),
    gap=st.integers(1, GAP),
)
def test_a_message_is_found_wherever_it_stands_in_a_long_line(
    phrase: Phrase, before: int, gap: int
) -> None:
    message = ("." * gap).join(phrase.pieces)
    text = ("." * before + message + "." * 50).encode()
    assert any(phrase.find_all(block.lowered) for block in textlog.blocks(io.BytesIO(text)))


@given(st.lists(st.text(alphabet="ab\x00 é\u2028", max_size=5), max_size=30))
def test_lines_are_numbered_as_an_editor_numbers_them(lines: list[str]) -> None:
    text = "\n".join([*lines, "No devices were found"])
    [found] = scan_stream(io.BytesIO(text.encode()), "log")
    assert found.where == f"log, line {len(lines) + 1}"
    assert found.evidence == "No devices were found"


@pytest.mark.parametrize("border", [textlog.CHUNK, 2 * textlog.CHUNK, 3 * textlog.CHUNK])
@pytest.mark.parametrize("inside", [1, 10, 20])
def test_a_message_across_the_border_of_two_reads_is_found(border: int, inside: int) -> None:
    for shift in (0, textlog.OVERLAP, 2 * textlog.OVERLAP):
        text = b"." * (border - shift - inside) + b"No devices were found" + b"." * 300_000
        assert len(scan_stream(io.BytesIO(text), "log")) == 1


def test_lines_are_numbered_across_blocks() -> None:
    text = b"some line\n" * 50_000 + b"No devices were found\n" + b"\n" * 100_000 + b"ERR!\n"
    first, second = scan_stream(io.BytesIO(text), "log")
    assert (first.where, second.where) == ("log, line 50001", "log, line 150002")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_other_systems_write_is_read(encoding: str) -> None:
    [found] = scan_stream(io.BytesIO("x\r\nNo devices were found\r\n".encode(encoding)), "log")
    assert (found.id, found.where) == ("no-devices", "log, line 2")


def test_the_gap_of_a_star_is_bounded() -> None:
    phrase = Phrase.of("begin*end")
    assert phrase.find_all("begin" + " " * GAP + "end")
    assert not phrase.find_all("begin" + " " * (GAP + 1) + "end")
    assert phrase.find_all("begin" + " " * 500 + "begin end") == [(505, 514)]
    assert not phrase.find_all("end begin")
    assert not phrase.find_all("begin\nend")


def test_a_line_counts_once_however_long_it_is() -> None:
    line = b"No devices were found " * 5000
    [found] = scan_stream(io.BytesIO(line + b"\n" + line), "log")
    assert found.count == 2
