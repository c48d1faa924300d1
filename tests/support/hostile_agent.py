"""An agent that speaks the protocol and lies: ``hostile_agent.py LIE``, on its standard streams.

It answers honestly about one job, but for the operation that the lie is about. Standard library
only: it runs as a program of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

JOB = "evil-0101-000000-abcd"
ESCAPES = "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b31m\x1b[31mred\u202e\u200b\nforged: all is well"

MANY_LISTS = b"[[]" + b",[]" * 9_999_999 + b"]"
WIDE_TEXT = '["\N{GRINNING FACE}'.encode() + b"x" * ((32 << 20) - 8) + b'"]'
"""Of the largest payload; one character of four bytes, so that Python stores all as such."""
HUGE = 1 << 62
LAST_SECOND = 253_402_300_799
"""Of the year 9999, in UTC."""
REPLY = {"type": "reply", "id": 1}

Request = dict[str, Any]


def record(**changes: Any) -> dict[str, Any]:
    spec = {"job_id": JOB, "name": "evil", "argv": ["python", "train.py"]}
    return {"spec": spec, "state": "succeeded", "created_at": 1e9, "log_bytes": 4, **changes}


def of_spec(**changes: Any) -> dict[str, Any]:
    return record(spec={**record()["spec"], **changes})


def send(header: dict[str, Any], payload: bytes = b"") -> None:
    if payload:
        header["payload"] = len(payload)
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + payload)
    sys.stdout.buffer.flush()


def reply(request: Request, result: Any = None, payload: Any = b"") -> None:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    send({"type": "reply", "id": request["id"], "ok": True, "result": result or {}}, data)


def hello(**changes: Any) -> None:
    send({"type": "hello", "protocol": 1, "agent": "a" * 64, "boot_id": "b", **changes})


def sleep() -> None:
    time.sleep(600)


def honest(request: Request) -> None:
    asked = request.get("args", {})
    op = request["op"]
    if op == "jobs":
        reply(request, payload=[record()])
    elif op == "submit":
        reply(request, {"record": record(spec=asked["spec"], state="queued"), "new": True})
    elif op == "read_log":
        offset = max(0, asked["offset"])
        data = b"log\n"[offset:]
        reply(request, {"record": record(), "offset": offset, "size": 4}, data)
    elif op == "missing_blobs":
        wanted = json.loads(request["data"])
        reply(request, payload={row[0] if isinstance(row, list) else row: 0 for row in wanted})
    elif op == "list_outputs":
        outputs("a")(request)
    elif op == "read_output":
        part(request, b"abcd"[asked["offset"] :])
    elif op == "hash_output":
        data = b"abcd"[asked["offset"] : asked["offset"] + asked["length"]]
        told = hashlib.sha256(data).hexdigest()
        reply(request, {"sha256": told, "identity": identity()})
    elif op == "sample":
        reply(request, payload={"taken_at": 1e9, "host": {}, "gpus": []})
    elif op == "watch":
        event(request, "jobs", {"changed": [record()], "removed": []})
        event(request, "sample", {"taken_at": time.time(), "host": {}, "gpus": []})
    else:
        reply(request, {"record": record()})


def event(request: Request, kind: str, value: Any) -> None:
    send({"type": "event", "id": request["id"], "kind": kind}, json.dumps(value).encode())


def jobs(*rows: Any) -> Callable[[Request], None]:
    return lambda request: reply(request, payload=list(rows))


def answer(**result: Any) -> Callable[[Request], None]:
    return lambda request: reply(request, result)


def outputs(*paths: str, size: int = 4, more: bool = False) -> Callable[[Request], None]:
    rows = [{"path": path, "size": size, "identity": identity(size)} for path in paths]
    return lambda request: reply(request, {"more": more}, rows)


def identity(size: int = 4, version: int = 1) -> str:
    return f"7:1:{size}:{version}:1"


def outputs_with_escapes(request: Request) -> None:
    rows = [
        {"path": f"skipped{ESCAPES}", "size": 0, "kind": "skipped", "reason": ESCAPES},
        {"path": f"there{ESCAPES}", "size": 4, "identity": identity()},
        {"path": f"to{ESCAPES}", "size": 0, "kind": "symlink", "target": f"/{ESCAPES}"},
    ]
    reply(request, {"more": False}, rows)


def part(request: Request, data: bytes, size: int = 4, version: int = 1, **more: Any) -> None:
    told = {"identity": identity(size, version), "size": size, "hole": 0, "whole": False}
    reply(request, {**told, **more}, data)


def hole(request: Request) -> None:
    part(request, b"", size=HUGE, hole=HUGE - request["args"]["offset"])


def ever_changing(request: Request) -> None:
    part(request, b"abcd", version=time.monotonic_ns())


def other_bytes(request: Request) -> None:
    part(request, b"wxyz"[request["args"]["offset"] :])


def beyond_the_end(request: Request) -> None:
    part(request, b"x" * 100, hole=1 << 40)


def flood(request: Request) -> None:
    while True:
        sys.stdout.buffer.write(b"{" * 65536)


def many_events(request: Request) -> None:
    while True:
        event(request, "jobs", {"changed": [record()], "removed": []})


def hoard_of_jobs(request: Request) -> None:
    """Ever more jobs, each with a long name."""
    for part in itertools.count():
        ids = (f"{JOB}-{part}-{row}" for row in range(500))
        jobs = [of_spec(job_id=job_id, name="x" * 32768) for job_id in ids]
        event(request, "jobs", {"changed": jobs, "removed": []})


def hoard_of_outputs(request: Request) -> None:
    """Ever more outputs, each with a long path."""
    before = request["args"]["after"].partition("/")[0] or f"{10**9}"
    names = (f"{int(before) + row + 1}" for row in range(10_000))
    tail = ("/" + "x" * 250) * 10
    rows = [
        {"path": name + tail, "size": 4, "kind": "skipped", "reason": "y" * 100} for name in names
    ]
    reply(request, {"more": True}, rows)


def outputs_one_by_one(request: Request) -> None:
    after = request["args"]["after"]
    row = {"path": f"{int(after or 0) + 1:09d}", "size": 4, "identity": "7:1:4:1:1"}
    reply(request, {"more": True}, [row])


def gpu(index: int, **changes: Any) -> dict[str, Any]:
    return {"index": index, "uuid": f"GPU-{index}", "name": "evil", **changes}


def giant_samples(request: Request) -> None:
    """Of many GPUs, each with many processes."""
    processes = [{"pid": pid, "name": "x" * 20} for pid in range(300)]
    gpus = [gpu(index, processes=processes) for index in range(1000)]
    sample = json.dumps({"taken_at": time.time(), "host": {}, "gpus": gpus}).encode()
    while True:
        send({"type": "event", "id": request["id"], "kind": "sample"}, sample)


def extremes(request: Request) -> None:
    """What is of the right type everywhere, and absurd."""
    whole = dict.fromkeys(
        ("memory_used", "memory_total", "fan", "sm_clock", "ecc_uncorrected"), HUGE
    )
    parts = {"power": 1e18, "power_limit": -1e18, "temperature": -HUGE, "pstate": -HUGE}
    texts = {"name": ESCAPES * 1000, "uuid": ESCAPES, "error": ESCAPES, "job_id": ESCAPES}
    process = {"pid": -HUGE, "memory_bytes": -HUGE, "user": ESCAPES, "name": ESCAPES}
    gpus = [gpu(index, **whole, **parts, processes=[process] * 50) for index in range(64)]
    gpus.append(gpu(1000, **{**texts, "throttle_reasons": [ESCAPES] * 50, "pci": ESCAPES}))
    host = dict.fromkeys(
        ("cpu", "load1", "uptime_s", "cores", "memory_used", "memory_total", "disk_used"), HUGE
    )
    times = {"created_at": 0, "started_at": LAST_SECOND, "ended_at": 0.0}
    last = record(**times, gpu_ids=[HUGE] * 1000, log_bytes=HUGE, pid=-HUGE, waiting_for=ESCAPES)
    last["spec"] = of_spec(gpus=HUGE, created_at=-1e17, name=ESCAPES, image=ESCAPES)["spec"]
    event(request, "jobs", {"changed": [last], "removed": [ESCAPES]})
    sample = {"taken_at": 0, "host": host, "gpus": gpus, "driver_version": ESCAPES}
    event(request, "sample", sample)


def answers_of_others(request: Request) -> None:
    """Replies to requests that nobody made, and none to this one."""
    while True:
        send({**REPLY, "id": request["id"] + 1000, "ok": True})


def answers_early(request: Request) -> None:
    """To the next requests, before they are made; then twice to each."""
    for number in range(request["id"] + 1, request["id"] + 5):
        send({"type": "reply", "id": number, "ok": True, "result": {"record": of_spec(job_id="x")}})
    honest(request)
    honest(request)


LIES: dict[str, dict[str, Callable[[Request], None]]] = {
    "job id that leaves": {"jobs": jobs(of_spec(job_id="x/../../../.ssh/authorized_keys"))},
    "job id with escapes": {"jobs": jobs(of_spec(job_id=JOB + "\x1b]52;c;eA==\x07"))},
    "job id with a newline": {"jobs": jobs(of_spec(job_id=JOB + "\n"))},
    "time beyond the calendar": {"jobs": jobs(record(started_at=1e300))},
    "time that is a text": {"jobs": jobs(record(started_at="now"))},
    "not a number": {"jobs": jobs(record(started_at=float("nan")))},
    "nested": {"jobs": lambda request: reply(request, payload=b"[" * 10_000)},
    "many empty lists": {"jobs": lambda request: reply(request, payload=MANY_LISTS)},
    "one wide text": {"jobs": lambda request: reply(request, payload=WIDE_TEXT)},
    "answers of others": {"jobs": answers_of_others},
    "answers early": {"jobs": answers_early},
    "payload too large": {"jobs": lambda request: send({**REPLY, "payload": 1 << 40})},
    "endless header": {"jobs": flood},
    "silent": {"jobs": lambda request: sleep()},
    "escapes in texts": {
        "jobs": jobs(
            of_spec(name=ESCAPES, argv=[ESCAPES]),
        ),
        "read_log": lambda request: reply(
            request, {"record": record(), "offset": 0, "size": 4}, b"\x1b]52;c;eA==\x07\n"
        ),
    },
    "refusal with escapes": {
        "jobs": lambda request: send(
            {
                "type": "reply",
                "id": request["id"],
                "ok": False,
                "error": {"code": ESCAPES, "message": ESCAPES * 1000},
            }
        )
    },
    "submit tells another job": {"submit": answer(record=of_spec(job_id="../../../x"))},
    "submit is silent": {"submit": lambda request: sleep()},
    "stop tells another job": {"stop": answer(record=of_spec(job_id="other-job"))},
    "stop is silent": {"stop": lambda request: sleep()},
    "log from elsewhere": {"read_log": answer(record=record(), offset=9, size=3)},
    "log of nonsense": {"read_log": answer(record=record(), offset="x", size=[])},
    "log is promised": {"read_log": answer(record=record(log_bytes=9), offset=0, size=9)},
    "log is silent": {"read_log": lambda request: sleep()},
    "outputs with escapes": {"list_outputs": outputs_with_escapes},
    "output of one hole": {"list_outputs": outputs("a", size=HUGE), "read_output": hole},
    "output that changes": {"list_outputs": outputs("a"), "read_output": ever_changing},
    "output of other bytes": {"list_outputs": outputs("a"), "read_output": other_bytes},
    "output beyond its end": {"list_outputs": outputs("a"), "read_output": beyond_the_end},
    "output of nonsense": {"list_outputs": outputs("a"), "read_output": answer(hole=-1, size="x")},
    "output is silent": {"list_outputs": outputs("a"), "read_output": lambda request: sleep()},
    "outputs that leave": {"list_outputs": outputs("../../.ssh/authorized_keys")},
    "outputs that are absolute": {"list_outputs": outputs("/tmp/rigup-hostile-output")},
    "outputs without end": {"list_outputs": outputs("a", more=True)},
    "outputs that hoard": {"list_outputs": hoard_of_outputs},
    "outputs one by one": {"list_outputs": outputs_one_by_one},
    "outputs are silent": {"list_outputs": lambda request: sleep()},
    "watch of nonsense": {"watch": lambda request: event(request, "sample", {"taken_at": "x"})},
    "watch that floods": {"watch": many_events},
    "watch that hoards jobs": {"watch": hoard_of_jobs},
    "watch of giant samples": {"watch": giant_samples},
    "watch of extremes": {"watch": extremes},
    "watch is silent": {"watch": lambda request: sleep()},
}  # fmt: skip

GREETINGS: dict[str, Callable[[], None]] = {
    "greets with nothing": sleep,
    "greets with a banner": lambda: sys.stdout.write(f"Welcome {ESCAPES}\n"),
    "greets with nonsense": lambda: hello(protocol="one", boot_id=[ESCAPES]),
    "greets without an agent": lambda: send(
        {"type": "unavailable", "reason": ESCAPES, "detail": ESCAPES}
    ),
    "is never there": lambda: send({"type": "unavailable", "reason": "absent", "detail": ESCAPES}),
    "is of another age": lambda: hello(protocol=2),
    "hangs up": lambda: None,
}


def main(lie: str) -> None:
    if lie in GREETINGS:
        GREETINGS[lie]()
        return
    hello()
    if lie == "stops reading":
        sleep()
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        request["data"] = sys.stdin.buffer.read(request.get("payload", 0))
        LIES[lie].get(request["op"], honest)(request)


if __name__ == "__main__":
    main(sys.argv[1])
