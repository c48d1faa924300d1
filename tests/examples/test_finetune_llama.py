"""The example is run as users run it: as a program, on the CPU, without network."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finetune_llama import find_checkpoint, parse_arguments

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT = EXAMPLES / "finetune_llama.py"
TIMEOUT_S = 240

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def start(
    *arguments: object, cwd: Path, script: tuple[str, ...] = (str(SCRIPT),), **env: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *script, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finetune(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    with start(*arguments, cwd=cwd, **env) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


SIGNALLED_IN_STEP_2 = """
import signal, sys
import finetune_llama
from finetuning.training_loop import Trainer

one_step = Trainer._one_step

def signalled(trainer):
    if trainer.step == 1:
        signal.raise_signal(signal.SIGTERM)
    return one_step(trainer)

Trainer._one_step = signalled
sys.exit(finetune_llama.main())
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start_rank(rank: int, port: int, cwd: Path) -> subprocess.Popen[str]:
    """One of two processes, as torchrun starts them, that both get SIGTERM in the same step."""
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    here = {"GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(EXAMPLES)}
    program = ("-c", SIGNALLED_IN_STEP_2, "--output_dir", "out")
    return start(*program, cwd=cwd, script=(), **place, **meeting, **here)


def metrics(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 steps from an empty directory, with the output directory that a job would get."""
    cwd = tmp_path_factory.mktemp("whole")
    steps = ("--max_steps", 30, "--save_steps", 10, "--logging_steps", 5)
    done = finetune(*steps, cwd=cwd, RIGUP_OUTPUT_DIR=str(cwd / "out"))
    assert done.returncode == 0, done.stderr
    assert "step 30/30" in done.stdout
    return cwd / "out"


def test_the_loss_falls(whole_run: Path) -> None:
    rows = metrics(whole_run)
    assert [row["step"] for row in rows] == [1, 5, 10, 15, 20, 25, 30]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    expected = {"step", "loss", "learning_rate", "epoch", "tokens_per_second", "seconds"}
    assert all(set(row) == expected for row in rows)


def test_the_run_leaves_checkpoints_adapter_and_scalars(whole_run: Path) -> None:
    names = {path.name for path in whole_run.iterdir()}
    assert {"checkpoint-10", "checkpoint-20", "checkpoint-30", "final", "base"} <= names
    assert (whole_run / "final" / "adapter_model.safetensors").is_file()
    assert list((whole_run / "tensorboard").glob("events.out.tfevents.*"))


def test_resuming_continues_at_the_step_and_reaches_the_same_loss(
    whole_run: Path, tmp_path: Path
) -> None:
    checkpoint = whole_run / "checkpoint-10"
    steps = ("--max_steps", 30, "--logging_steps", 5, "--output_dir", "again")
    done = finetune(*steps, "--resume_from_checkpoint", checkpoint, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "at step 10" in done.stdout
    rows = metrics(tmp_path / "again")
    assert rows[0]["step"] == 15
    assert rows[-1]["loss"] == pytest.approx(metrics(whole_run)[-1]["loss"], rel=0.02)


def test_a_second_run_does_not_overwrite_the_first(whole_run: Path) -> None:
    before = metrics(whole_run)
    done = finetune("--output_dir", whole_run, cwd=whole_run)
    assert done.returncode == 2
    assert "--resume_from_checkpoint" in done.stderr
    assert metrics(whole_run) == before


def test_sigterm_saves_a_checkpoint_that_latest_finds(tmp_path: Path) -> None:
    with start("--output_dir", tmp_path, cwd=tmp_path) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("step 1/"))
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 143
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    step = json.loads((checkpoint / "trainer_state.json").read_text())["step"]
    assert f"stopped by SIGTERM at step {step}" in out
    again = parse_arguments(["--output_dir", str(tmp_path), "--resume_from_checkpoint"])
    assert find_checkpoint(again) == checkpoint


def test_two_processes_that_both_get_sigterm_stop_with_its_exit_code(tmp_path: Path) -> None:
    port = free_port()
    with start_rank(0, port, tmp_path) as first, start_rank(1, port, tmp_path) as second:
        out, err = first.communicate(timeout=TIMEOUT_S)
        silent, _ = second.communicate(timeout=TIMEOUT_S)
    assert (first.returncode, second.returncode) == (143, 143), err
    assert "on cpu x2" in out
    assert "stopped by SIGTERM at step 2" in out
    assert silent == ""
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-2"]


def test_a_malformed_data_file_is_exit_2_without_a_traceback(tmp_path: Path) -> None:
    data = tmp_path / "mine.jsonl"
    data.write_text('{"text": "ok"}\n{"question": "?"}\n')
    done = finetune("--data_path", data, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{data}:2" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_cannot_be_had_is_exit_2(tmp_path: Path) -> None:
    done = finetune("--model_name", "nobody/absent", cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "nobody/absent" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--epochs", "0"),
        ("--batch_size", "-1"),
        ("--learning_rate", "nan"),
        ("--lora_dropout", "1"),
        ("--bf16", "maybe"),
        ("--resume_from_checkpoint", "nowhere"),
    ],
)
def test_bad_arguments_are_exit_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = finetune(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
