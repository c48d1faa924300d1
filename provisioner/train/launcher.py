"""How a script is started on its GPUs: once, or one process per GPU by torchrun or accelerate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from provisioner.errors import UsageError

AUTO = "auto"
NONE = "none"
TORCHRUN = "torchrun"
ACCELERATE = "accelerate"
OLD_LAUNCH = "torch.distributed.launch"
"""Like torchrun, and the script gets ``--local-rank=N`` besides; only lines name it."""
LAUNCHERS = (AUTO, NONE, TORCHRUN, ACCELERATE)

MODULES = {
    OLD_LAUNCH: OLD_LAUNCH,
    "torch.distributed.run": TORCHRUN,
    "accelerate.commands.launch": ACCELERATE,
}
"""See https://docs.pytorch.org/docs/stable/elastic/run.html and torch/distributed/launch.py."""
PROGRAMS = {("torchrun",): TORCHRUN, ("accelerate", "launch"): ACCELERATE}

PROCESS_OPTIONS = ("nproc-per-node", "num-processes")
ALL_GPUS = ("gpu", "auto")
ONE_HOST = {"nnodes": "1", "node-rank": "0", "num-machines": "1", "machine-rank": "0"}
"""Options that may have this value only: a job runs on one host."""
INTERPRETER_SWITCH = re.compile(r"-[uBOEsSIbdvq]+")
USE_ENV = "use-env"
SWITCHES = ("standalone", USE_ENV, "multi-gpu")
KEPT_SWITCHES = ("use-fsdp", "use-deepspeed", "quiet", "debug")
KEPT = (
    *("max-restarts", "monitor-interval", "start-method", "log-dir", "redirects", "tee"),
    *("local-ranks-filter", "mixed-precision", "config-file", "dynamo-backend"),
    *("gradient-accumulation-steps", "num-cpu-threads-per-process"),
)
KEPT_FAMILIES = ("fsdp-", "deepspeed-")
"""Options with a value that go to the launcher as they are."""
CHOSEN_HERE = (
    *("master-addr", "master-port", "rdzv-backend", "rdzv-endpoint", "rdzv-id"),
    *("main-process-ip", "main-process-port"),
)
"""Options that are dropped: the launcher of a job on one host finds its address and port itself."""


@dataclass(frozen=True)
class LauncherLine:
    """A launcher's command line, taken apart. ``gpus``: a number, ``all``, or None where the line
    does not say. ``options``: words for the launcher. An old line with ``--use_env`` is torchrun's.
    """

    launcher: str
    script: str
    arguments: tuple[str, ...]
    gpus: str | None
    options: tuple[str, ...] = ()


def command(
    interpreter: str,
    script: str,
    arguments: Sequence[str],
    *,
    gpus: int,
    launcher: str = AUTO,
    options: Sequence[str] = (),
) -> tuple[str, ...]:
    """The words that start ``script``. AUTO: torchrun for a Python script on several GPUs.

    Each launch finds a free port itself, so two jobs on one host never collide. Raises UsageError
    for an unknown launcher, and for a script that the launcher cannot start.
    """
    check_launcher(launcher)
    is_python = PurePath(script).suffix == ".py"
    if launcher == AUTO:
        launcher = TORCHRUN if gpus > 1 and is_python else NONE
    if launcher == NONE:
        return (interpreter, script, *arguments)
    if not is_python:
        raise UsageError(
            f"--launcher {launcher} starts Python scripts, and {script} is not one",
            remedy="use --launcher none: it starts the script once, with all its GPUs",
        )
    words = _launcher_words(launcher, max(1, gpus))
    return (interpreter, *words, *options, script, *arguments)


def check_launcher(launcher: str) -> None:
    """Raises UsageError for an unknown launcher."""
    if launcher not in (*LAUNCHERS, OLD_LAUNCH):
        raise UsageError(f"--launcher {launcher}: expected one of {', '.join(LAUNCHERS)}")


def read_line(words: Sequence[str]) -> LauncherLine | None:
    """Take a line such as ``python -m torch.distributed.launch --nproc_per_node=4 train.py`` apart.

    None for a line without a launcher. Raises UsageError for one that asks for several hosts, for
    an option that is not known here, and for one without a script.
    """
    launcher, rest = _split_launcher(words)
    if launcher is None:
        return None
    gpus: str | None = None
    kept: list[str] = []
    while rest and rest[0].startswith("-"):
        before = rest
        name, value, rest = _next_option(rest)
        if name in PROCESS_OPTIONS:
            gpus = _processes(name, value)
        elif name == USE_ENV and launcher == OLD_LAUNCH:
            launcher = TORCHRUN
        elif name in ONE_HOST and value != ONE_HOST[name]:
            raise UsageError(
                f"--{name} {value}: a job runs on one host",
                remedy=f"leave --{name} out, and choose the host with --host",
            )
        elif name in KEPT_SWITCHES or _is_kept(name):
            kept += before[: len(before) - len(rest)]
    if not rest:
        raise UsageError(f"{' '.join(words)!r} names no script")
    return LauncherLine(launcher, rest[0], tuple(rest[1:]), gpus, tuple(kept))


def _is_kept(name: str) -> bool:
    return name in KEPT or name.startswith(KEPT_FAMILIES)


def _processes(name: str, value: str) -> str:
    if value in ALL_GPUS:
        return "all"
    if value.isascii() and value.isdigit() and int(value) > 0:
        return value
    raise UsageError(f"--{name} {value}: expected a number from 1, or {' or '.join(ALL_GPUS)}")


def _split_launcher(words: Sequence[str]) -> tuple[str | None, list[str]]:
    rest = without_interpreter(words)
    if len(rest) > 1 and len(rest) < len(words) and rest[0] == "-m":
        return MODULES.get(rest[1]), rest[2:]
    for program, launcher in PROGRAMS.items():
        named = [PurePath(word).name for word in rest[:1]] + rest[1 : len(program)]
        if tuple(named) == program:
            return launcher, rest[len(program) :]
    return None, rest


def without_interpreter(words: Sequence[str]) -> list[str]:
    """``python -u`` and its like taken off: a job's output is never held back, and its interpreter
    is the host's or the image's."""
    rest = list(words)
    if rest and PurePath(rest[0]).name.startswith("python"):
        del rest[0]
        while rest and INTERPRETER_SWITCH.fullmatch(rest[0]):
            del rest[0]
    return rest


def _next_option(words: Sequence[str]) -> tuple[str, str, list[str]]:
    """The first option's name with hyphens, its value ("" for a switch), and what follows."""
    head, equals, value = words[0].partition("=")
    name = head.lstrip("-").replace("_", "-")
    if name in (*SWITCHES, *KEPT_SWITCHES):
        return name, "", list(words[1:])
    if name not in (*PROCESS_OPTIONS, *ONE_HOST, *CHOSEN_HERE) and not _is_kept(name):
        raise UsageError(
            f"{head}: this option of the launcher is not supported here",
            remedy="give the script with --script, and its arguments after --",
        )
    if equals:
        return name, value, list(words[1:])
    if len(words) < 2:
        raise UsageError(f"{head} needs a value")
    return name, words[1], list(words[2:])


def _launcher_words(launcher: str, processes: int) -> tuple[str, ...]:
    if launcher in (TORCHRUN, OLD_LAUNCH):
        module = "torch.distributed.run" if launcher == TORCHRUN else OLD_LAUNCH
        return ("-m", module, "--standalone", f"--nproc-per-node={processes}")
    several = ("--multi_gpu",) if processes > 1 else ()
    return (
        *("-m", "accelerate.commands.launch", f"--num_processes={processes}"),
        *("--num_machines=1", "--main_process_port=0", *several),
    )
