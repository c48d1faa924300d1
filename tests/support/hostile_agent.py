"""An agent that speaks the protocol and lies: ``hostile_agent.py LIE``, on its standard streams.

It answers honestly about one job, but for the operation that the lie is about. Standard library
only: it runs as a program of its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

JOB = "evil-0101-000000-abcd"
ESCAPES = "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x1b[31mred\u202e"

MANY_LISTS = b"[[]" + b",[]" * 9_999_999 + b"]"
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
        reply(request, {"more": False}, [])
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


def outputs(*paths: Any) -> Callable[[Request], None]:
    rows = [
        {"path": path, "size": 4, "modified_at": 1.0, "identity": "7:1:4:1:1"} for path in paths
    ]
    return lambda request: reply(request, {"more": True}, rows)


def flood(request: Request) -> None:
    while True:
        sys.stdout.buffer.write(b"{" * 65536)


def many_events(request: Request) -> None:
    while True:
        event(request, "jobs", {"changed": [record()], "removed": []})


LIES: dict[str, dict[str, Callable[[Request], None]]] = {
    "job id that leaves": {"jobs": jobs(of_spec(job_id="x/../../../.ssh/authorized_keys"))},
    "job id with escapes": {"jobs": jobs(of_spec(job_id=JOB + "\x1b]52;c;eA==\x07"))},
    "job id with a newline": {"jobs": jobs(of_spec(job_id=JOB + "\n"))},
    "time beyond the calendar": {"jobs": jobs(record(started_at=1e300))},
    "time that is a text": {"jobs": jobs(record(started_at="now"))},
    "not a number": {"jobs": jobs(record(started_at=float("nan")))},
    "nested": {"jobs": lambda request: reply(request, payload=b"[" * 10_000)},
    "many empty lists": {"jobs": lambda request: reply(request, payload=MANY_LISTS)},
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
    "log is silent": {"read_log": lambda request: sleep()},
    "outputs that leave": {"list_outputs": outputs("../../.ssh/authorized_keys")},
    "outputs that are absolute": {"list_outputs": outputs("/tmp/rigup-hostile-output")},
    "outputs without end": {"list_outputs": outputs("a")},
    "outputs are silent": {"list_outputs": lambda request: sleep()},
    "watch of nonsense": {"watch": lambda request: event(request, "sample", {"taken_at": "x"})},
    "watch that floods": {"watch": many_events},
    "watch is silent": {"watch": lambda request: sleep()},
}  # fmt: skip

GREETINGS: dict[str, Callable[[], None]] = {
    "greets with nothing": sleep,
    "greets with a banner": lambda: sys.stdout.write(f"Welcome {ESCAPES}\n"),
    "greets with nonsense": lambda: hello(protocol="one", boot_id=[ESCAPES]),
    "greets without an agent": lambda: send(
        {"type": "unavailable", "reason": ESCAPES, "detail": ESCAPES}
    ),
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
