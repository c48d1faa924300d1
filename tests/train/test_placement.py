"""Which host a job goes to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from provisioner.errors import BlockedError, ConnectError, RigupError, UsageError
from provisioner.train.placement import (
    GIB,
    Candidate,
    Choice,
    GpuRequest,
    GpuState,
    choices,
    read_gpus,
    read_memory,
    read_request,
)


def choose(hosts: Sequence[Candidate], asked: GpuRequest) -> Choice:
    return choices(hosts, asked, only=len(hosts) == 1)[0]


def host(name: str, free: str = "", **rest: object) -> Candidate:
    """``free``: a character per GPU, ``.`` free and ``x`` taken."""
    gpus = tuple(
        GpuState(index, "NVIDIA H100 80GB HBM3", 80 * GIB, mark == ".")
        for index, mark in enumerate(free)
    )
    return Candidate(name, gpus, **rest)  # type: ignore[arg-type]


def unreachable(name: str) -> Candidate:
    return Candidate(name, error=ConnectError("no route", host=name, remedy="switch it on"))


QUEUE = host("q", "..", jobs_ahead=1, has_queue=True)


@pytest.mark.parametrize(
    ("hosts", "asked", "expected"),
    [
        ([host("a", ".."), host("b", "..")], GpuRequest(), ("a", 1, False)),
        ([host("a", ".x"), host("b", "..")], GpuRequest(), ("b", 1, False)),
        ([host("a", ".x", has_image=True), host("b", "..")], GpuRequest(), ("a", 1, False)),
        ([host("a", ".x", has_image=True), host("b", "..")], GpuRequest(2), ("b", 2, False)),
        (
            [host("a", "x", jobs_ahead=3), host("b", "x", jobs_ahead=1)],
            GpuRequest(),
            ("b", 1, True),
        ),
        ([host("a", ""), host("b", "x", jobs_ahead=9)], GpuRequest(), ("b", 1, True)),
        ([host("a", ".", provisioned=False), host("b", "x")], GpuRequest(), ("b", 1, True)),
        ([unreachable("a"), host("b", ".")], GpuRequest(), ("b", 1, False)),
        ([host("a", "."), host("b", "....")], GpuRequest("all"), ("b", 4, False)),
        ([host("a", ".x"), host("b", "x.")], GpuRequest(1, (1,)), ("b", 1, False)),
        ([host("a"), host("b", "x")], GpuRequest(0), ("a", 0, False)),
        ([QUEUE, host("b", ".")], GpuRequest(), ("b", 1, False)),
        ([QUEUE], GpuRequest(), ("q", 1, True)),
        ([host("a")], GpuRequest(), ("a", 0, False)),
    ],
)  # fmt: skip
def test_choice(hosts: list[Candidate], asked: GpuRequest, expected: tuple[str, int, bool]) -> None:
    chosen = choose(hosts, asked)
    assert (chosen.name, chosen.gpus, chosen.waits) == expected
    assert chosen.reason


@pytest.mark.parametrize(
    ("hosts", "asked", "kind", "named"),
    [
        ([unreachable("a"), unreachable("b")], GpuRequest(), RigupError, "b: no route"),
        ([host("a"), unreachable("b")], GpuRequest(), UsageError, "no GPU on a"),
        ([host("a")], GpuRequest(1), UsageError, "no GPU on a"),
        ([host("a", provisioned=False)], GpuRequest(), BlockedError, "a was never provisioned"),
        ([host("a"), host("b")], GpuRequest(), UsageError, "no GPU on a, b"),
        ([host("a", "..")], GpuRequest(3), UsageError, "3 GPU"),
        ([host("a", "..")], GpuRequest(1, (5,)), UsageError, "GPU 5"),
        ([host("a", "..")], GpuRequest(type="a100"), UsageError, "a has 2 x NVIDIA H100"),
        ([host("a", "..")], GpuRequest(min_memory_bytes=96 * GIB), UsageError, "96 GiB each"),
    ],
)  # fmt: skip
def test_refusal(
    hosts: list[Candidate], asked: GpuRequest, kind: type[RigupError], named: str
) -> None:
    with pytest.raises(kind, match=named) as caught:
        choose(hosts, asked)
    assert caught.value.remedy


def test_a_job_of_a_type_gets_only_such_gpus() -> None:
    mixed = Candidate(
        "a",
        (
            GpuState(0, "NVIDIA T4", 16 * GIB, True),
            GpuState(1, "NVIDIA A100", 80 * GIB, False),
            GpuState(2, "NVIDIA A100", 80 * GIB, True),
        ),
    )
    assert choose([mixed], GpuRequest(type="a100")).indices == (2,)
    assert choose([mixed], GpuRequest(2, type="a100")).indices == (1, 2)
    assert choose([mixed], GpuRequest(2, type="a100")).waits
    assert choose([mixed], GpuRequest(1)).indices == ()
    assert choose([mixed], GpuRequest(2, (0, 2))).indices == (0, 2)


def test_a_refusal_names_the_hosts_that_were_not_asked() -> None:
    with pytest.raises(UsageError, match=r"no GPU on a\nb: no route"):
        choose([host("a"), unreachable("b")], GpuRequest())


def broken(name: str, free: str) -> Candidate:
    """``free``: as of :func:`host`; all GPUs but the free ones are broken."""
    gpus = tuple(
        GpuState(index, "NVIDIA H100", 80 * GIB, mark == ".", "" if mark == "." else "it is lost")
        for index, mark in enumerate(free)
    )
    return Candidate(name, gpus)


def test_gpus_that_no_job_can_have_are_none() -> None:
    assert choose([broken("a", "xx"), host("b", "x", jobs_ahead=1)], GpuRequest()).name == "b"
    assert choose([broken("a", ".x.")], GpuRequest("all")).gpus == 2
    assert choose([broken("a", ".x.")], GpuRequest(2)).indices == (), "the host leaves it out"
    with pytest.raises(UsageError, match="GPU 1 cannot be used: it is lost"):
        choose([broken("a", ".x")], GpuRequest(2))


def test_what_a_host_says_begins_no_line() -> None:
    lie = RigupError("busy\nhonest: its disk is on fire", host="a")
    with pytest.raises(RigupError) as raised:
        choices([Candidate("a", error=lie), unreachable("b")], GpuRequest())
    assert "a: busy honest: its disk is on fire\n" in raised.value.message
    forged = Candidate("a", (GpuState(0, "H100\nb: x", 1, True),))
    with pytest.raises(UsageError) as raised:
        choices([forged], GpuRequest(2))
    assert "\n" not in raised.value.message


def test_all_hosts_in_the_order_in_which_they_are_tried() -> None:
    hosts = [host("a", "x"), host("b", "."), host("c", ".."), unreachable("d")]
    assert [choice.name for choice in choices(hosts, GpuRequest())] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [(None, 0), ("24", 24e9), ("24g", 24e9), ("80 GB", 80e9), ("22.5GiB", 22.5 * GIB)],
)
def test_memory_is_read(text: str | None, bytes_: float) -> None:
    assert read_memory(text) == bytes_


@pytest.mark.parametrize("text", ["", "-1", "lots", "24m", "²", "9" * 20, "1e3"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--min-gpu-memory"):
        read_memory(text)


def test_a_card_of_24_gigabytes_has_24_gigabytes() -> None:
    card = Candidate("a", (GpuState(0, "NVIDIA GeForce RTX 4090", 24564 << 20, True),))
    assert choose([card], GpuRequest(min_memory_bytes=read_memory("24g"))).name == "a"


def test_no_gpu_and_a_kind_of_gpu_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="asks for no GPU"):
        read_request("0", "h100", None)


def test_type_and_memory_narrow_the_choice() -> None:
    small = Candidate("a", (GpuState(0, "NVIDIA T4", 16 * GIB, True),))
    assert choose([small, host("b", "x")], GpuRequest(type="h100")).name == "b"
    assert choose([small, host("b", "x")], GpuRequest(min_memory_bytes=24 * GIB)).name == "b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (None, ())),
        ("all", ("all", ())),
        ("0", (0, ())),
        ("4", (4, ())),
        ("2,0", (2, (0, 2))),
        ("3,", (1, (3,))),
    ],
)
def test_gpus_are_read(text: str | None, expected: object) -> None:
    assert read_gpus(text) == expected


@pytest.mark.parametrize("text", ["", "two", "-1", "0,0", "1,,2", "²", "1.5", "9999"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_gpus(text)
