"""Why a job ended, told from what can still be seen: pure, no I/O."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, replace
from typing import Callable, FrozenSet, Optional, Sequence, Tuple

from remote_agent.protocol.job import FAILED, LOST, STOPPED, SUCCEEDED, Verdict
from remote_agent.ranks import RankFailure
from remote_agent.runtimes.base import Ending

LOG_TAIL = 64 * 1024
"""How many bytes at the end of a log are searched for evidence. The search is linear in them
whatever they are: plain substrings first, and patterns only at the beginning of a line."""

CUDA_OOM = (
    b"OutOfMemoryError: CUDA",
    b"CUDA out of memory",
    b"CUDA error: out of memory",
    b"CUDA_ERROR_OUT_OF_MEMORY",
)
DISK_FULL = (b"No space left on device", b"Errno 28]", b"ENOSPC", b"Disk quota exceeded")
TRACEBACK = b"Traceback (most recent call last):"
EXCEPTION = re.compile(rb"[A-Za-z_][A-Za-z0-9_.]{0,200}(?::|$)")
"""The line that ends a traceback: ``ValueError: bad batch``, ``KeyboardInterrupt``."""
XID = re.compile(r"NVRM: Xid \(([^)]{0,64})\): (\d{1,5})")
OOM_VICTIM = re.compile(r"Killed process (\d{1,10})")
MAX_EVIDENCE = 400
MAX_LINE = 4 * MAX_EVIDENCE
"""Bytes at the beginning of a line that are looked at; a character has up to 4."""
UNSEEN = (
    "its supervisor was killed; the job ran on and has ended since, so its exit code is not known"
)

XID_ACTIONS = {
    48: "double-bit ECC error: drain the node and run a health check",
    62: "GPU microcontroller halt: reset the GPU",
    64: "row remapping failed: reset the GPU",
    74: "NVLink error: check the links",
    79: "the GPU fell off the bus: restart the machine",
    94: "contained memory error: run the job again",
    95: "uncontained memory error: reset the GPU",
    109: "context switch timeout: reset the GPU",
    110: "security fault: reset the GPU",
    119: "GSP RPC timeout: reset the GPU",
    120: "GSP error: reset the GPU",
    136: "link training failed: reset the GPU",
    140: "unrecovered ECC error: reset the GPU",
    143: "GPU initialisation error: reset the GPU",
}
"""Xids that are the hardware's fault -> what NVIDIA's Xid catalogue says to do (2025-10, by way
of leptonai/gpud). 13, 31 and 43 are usually the program's own fault and not listed."""


@dataclass(frozen=True)
class Evidence:
    """``kernel_lines``: kernel messages since the job began; ``oom_kills``: by how much the
    host's OOM kill counter (/proc/vmstat) rose meanwhile; ``pci``: the addresses of the job's GPUs;
    ``pids``: the processes of the job that were seen; ``going_down``: the host is shutting down;
    ``disk``: how the job's disk was seen to be full, "" where it was not; ``first_rank``: of a job
    that torchrun or accelerate started, the process that failed first."""

    ending: Ending
    stopped: bool = False
    log_tail: bytes = b""
    kernel_lines: Tuple[str, ...] = ()
    oom_kills: int = 0
    pci: FrozenSet[str] = frozenset()
    pids: FrozenSet[int] = frozenset()
    going_down: bool = False
    disk: str = ""
    first_rank: Optional[RankFailure] = None


MAKE_ROOM = "free space on the host (`df -h`), or remove finished jobs"
SENT_BY_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals that a full disk does not cause."""
LAUNCHER_FAILED = 1
"""The exit code of torchrun and accelerate, which end with an exception, where a process failed."""
AGAIN = "run it again; a job that saves checkpoints can resume from them"


def judge(seen: Evidence) -> Tuple[str, Verdict]:
    """The final state and its verdict. The first rule that applies wins. Where a launcher failed
    because one of its processes did, that process is judged in its place."""
    found = _first(WHOLE_JOB, seen)
    if found is not None:
        return found
    rank = seen.first_rank
    if rank is None or seen.ending.exit_code != LAUNCHER_FAILED:
        return _certainly(_first(PROGRAM, seen))
    ending = Ending(exit_code=rank.exit_code, signal=rank.signal)
    state, verdict = _certainly(
        _first(PROGRAM, replace(seen, ending=ending, log_tail=rank.log, first_rank=None))
    )
    if rank.rank is None:
        return state, verdict
    evidence = "rank %d failed first: %s" % (rank.rank, verdict.evidence or "it said nothing")
    return state, replace(verdict, evidence=evidence)


def reboot(was: str, now: str) -> Verdict:
    return Verdict(
        "reboot",
        evidence="the host's boot id changed from %s to %s" % (was[:8], now[:8]),
        hint=AGAIN,
    )


def supervisor_gone(evidence: str) -> Verdict:
    return Verdict(
        "lost",
        evidence=evidence,
        hint="run it again; if it happens often, look for the OOM killer in the host's kernel log",
    )


def could_not_start(evidence: str, hint: str) -> Verdict:
    return Verdict("could-not-start", evidence=evidence, hint=hint)


def _stopped(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    if not seen.stopped:
        return None
    evidence = "; ".join(filter(None, ("a stop was asked for", seen.ending.unknown)))
    return STOPPED, _verdict(seen, "stopped-by-user", evidence, "")


def _host_went_down(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    """At a reboot every process gets SIGTERM; a job may well end with a code of its own."""
    if not seen.going_down or seen.ending.exit_code == 0:
        return None
    return LOST, _verdict(seen, "reboot", "the host was going down", AGAIN)


def _not_started(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    problem = seen.ending.could_not_start
    if problem is None:
        return None
    return FAILED, could_not_start(problem.evidence, problem.hint)


def _unknown(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    if seen.ending.exit_code is not None or seen.ending.signal is not None:
        return None
    said = _last_exception(seen.log_tail)
    tail = "; its log ends with: %s" % said if said else ""
    lost = supervisor_gone((seen.ending.unknown or UNSEEN) + tail)
    return LOST, replace(lost, hint=seen.ending.hint or lost.hint)


def _success(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    if seen.ending.exit_code != 0 or seen.ending.oom_killed:
        return None
    if seen.disk:
        said = seen.disk + "; its log and what it saved may be incomplete"
        return SUCCEEDED, _verdict(seen, "success", said, "check its outputs; " + MAKE_ROOM)
    return SUCCEEDED, Verdict("success", exit_code=0)


def _container_oom(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    if not seen.ending.oom_killed:
        return None
    return FAILED, _verdict(
        seen,
        "container-out-of-memory",
        "Docker reports OOMKilled",
        "lower the memory need (batch size, data-loader workers) or raise the memory limit",
    )


def _ended_from_outside(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    if not seen.ending.outside:
        return None
    evidence = "%s (exit code %s)" % (seen.ending.outside, seen.ending.exit_code)
    return FAILED, _verdict(seen, "signal", evidence, "not rigup's doing: " + AGAIN)


def _cuda_oom(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    line = _last_line_with(CUDA_OOM, seen.log_tail)
    if line is None:
        return None
    return FAILED, _verdict(
        seen,
        "cuda-out-of-memory",
        line,
        "lower the batch size or sequence length, use gradient accumulation or checkpointing, "
        "or ask for more GPUs",
    )


def _xid(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    for line in reversed(seen.kernel_lines):
        match = XID.search(line)
        if match and int(match.group(2)) in XID_ACTIONS and _is_ours(match.group(1), seen.pci):
            return FAILED, _verdict(
                seen, "xid", line.strip()[:MAX_EVIDENCE], XID_ACTIONS[int(match.group(2))]
            )
    return None


def _is_ours(address: str, leased: FrozenSet[str]) -> bool:
    """Another job's broken GPU is not why this one failed. ``address``: PCI:0000:05:00."""
    return address.partition(":")[2].lower() in leased


def _host_oom(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    killed = seen.ending.signal == signal.SIGKILL or seen.ending.exit_code == 128 + signal.SIGKILL
    if not killed or seen.oom_kills <= 0:
        return None
    told = [(OOM_VICTIM.search(line), line.strip()) for line in seen.kernel_lines]
    victims = [(int(match.group(1)), line) for match, line in told if match]
    ours = [line for pid, line in victims if pid in seen.pids]
    if victims and not ours:
        return None  # it ran, for somebody else
    evidence = ours[-1] if ours else "the kernel's OOM killer ran while the job did"
    return FAILED, _verdict(
        seen,
        "host-out-of-memory",
        evidence,
        "the host ran out of memory: fewer data-loader workers, a smaller dataset in memory, "
        "or a bigger host",
    )


def _disk_full(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    """A log on the full disk lacks the program's last words: then the disk itself is evidence,
    unless the program says or shows another reason."""
    line = _last_line_with(DISK_FULL, seen.log_tail)
    if line is None and (_last_exception(seen.log_tail) or seen.ending.signal in SENT_BY_OTHERS):
        return None
    if line is None and not seen.disk:
        return None
    return FAILED, _verdict(seen, "disk-full", line or seen.disk, MAKE_ROOM)


def _signal(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    if seen.ending.signal is None:
        return None
    hint = "somebody or something on the host ended it"
    if seen.ending.signal in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL):
        hint = "a crash in native code: run with PYTHONFAULTHANDLER=1 to see where"
    in_container = seen.ending.exit_code is not None
    if seen.ending.signal in (signal.SIGTERM, signal.SIGHUP) and not in_container:
        hint = (
            "the host ended it: a shutdown, a person, or the end of the login session where "
            "logind.conf says KillUserProcesses=yes (then `sudo loginctl enable-linger USER`)"
        )
    evidence = "ended by %s" % signal_name(seen.ending.signal)
    if in_container:
        evidence += ", it or a program that it ran (exit code %s)" % seen.ending.exit_code
    return FAILED, _verdict(seen, "signal", evidence, hint)


def _exit_code(seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    said = _last_exception(seen.log_tail) or _last_line(seen.log_tail)
    if seen.disk:
        said += "; besides, " + seen.disk
    hint = "read the end of its log (`rigup logs`)"
    return FAILED, _verdict(seen, "exit-code", said, hint)


Rule = Callable[[Evidence], Optional[Tuple[str, Verdict]]]
WHOLE_JOB: Tuple[Rule, ...] = (
    _stopped,
    _not_started,
    _host_went_down,
    _unknown,
    _success,
    _container_oom,
    _ended_from_outside,
)
PROGRAM: Tuple[Rule, ...] = (_cuda_oom, _xid, _host_oom, _disk_full, _signal, _exit_code)


def _first(rules: Tuple[Rule, ...], seen: Evidence) -> Optional[Tuple[str, Verdict]]:
    for rule in rules:
        found = rule(seen)
        if found is not None:
            return found
    return None


def _certainly(found: Optional[Tuple[str, Verdict]]) -> Tuple[str, Verdict]:
    """The last rule applies to everything."""
    assert found is not None
    return found


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def _verdict(seen: Evidence, cause: str, evidence: str, hint: str) -> Verdict:
    number = seen.ending.signal
    return Verdict(
        cause,
        exit_code=seen.ending.exit_code,
        signal=signal_name(number) if number is not None else None,
        evidence=evidence,
        hint=hint,
    )


def _last_line_with(phrases: Sequence[bytes], text: bytes) -> Optional[str]:
    at = max(text.rfind(phrase) for phrase in phrases)
    if at < 0:
        return None
    begin = max(text.rfind(b"\n", 0, at), text.rfind(b"\r", 0, at)) + 1
    ends = [end for end in (text.find(b"\n", at), text.find(b"\r", at)) if end >= 0]
    line = text[begin : min(ends, default=len(text))]
    return _shown(line if at - begin < MAX_EVIDENCE // 2 else line[at - begin :])


def _last_exception(text: bytes) -> str:
    """The line that ends the last Python traceback, such as ``ValueError: bad batch``."""
    _, found, after = text.rpartition(TRACEBACK)
    if not found:
        return ""
    for line in after.splitlines():
        if line and not line.startswith((b" ", b"\t")) and EXCEPTION.match(line[:MAX_LINE]):
            return _shown(line)
    return ""


def _last_line(text: bytes) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return _shown(lines[-1]) if lines else ""


def _shown(line: bytes) -> str:
    text = line[:MAX_LINE].decode("utf-8", "replace").strip()
    clean = "".join(c for c in text if c.isprintable())
    return clean if len(clean) <= MAX_EVIDENCE else clean[:MAX_EVIDENCE] + "…"
