"""How a script is started on its GPUs."""

from __future__ import annotations

import shlex

import pytest

from provisioner.errors import UsageError
from provisioner.train.launcher import LauncherLine, command, read_line

TORCHRUN = ("-m", "torch.distributed.run", "--standalone")


@pytest.mark.parametrize(
    ("script", "gpus", "launcher", "expected"),
    [
        ("train.py", 0, "auto", ("python", "train.py", "--lr", "1e-4")),
        ("train.py", 1, "auto", ("python", "train.py", "--lr", "1e-4")),
        ("train.py", 4, "auto", ("python", *TORCHRUN, "--nproc-per-node=4", "train.py")),
        ("train.py", 1, "torchrun", ("python", *TORCHRUN, "--nproc-per-node=1", "train.py")),
        ("train.py", 0, "torchrun", ("python", *TORCHRUN, "--nproc-per-node=1", "train.py")),
        ("train.py", 4, "none", ("python", "train.py")),
        ("train.sh", 4, "auto", ("python", "train.sh")),
        (
            "train.py",
            2,
            "torch.distributed.launch",
            ("python", "-m", "torch.distributed.launch", "--standalone", "--nproc-per-node=2"),
        ),
        ("train.py", 2, "accelerate", ("python", "-m", "accelerate.commands.launch")),
    ],
)
def test_command(script: str, gpus: int, launcher: str, expected: tuple[str, ...]) -> None:
    words = command("python", script, ("--lr", "1e-4"), gpus=gpus, launcher=launcher)
    assert words[: len(expected)] == expected
    assert words[-3:] == (script, "--lr", "1e-4")


def test_options_of_a_line_go_to_the_launcher() -> None:
    options = ("--max-restarts", "3")
    words = command("python", "a.py", ("-x",), gpus=2, launcher="torchrun", options=options)
    assert words[-5:] == ("--nproc-per-node=2", *options, "a.py", "-x")
    assert command("python", "a.py", (), gpus=2, launcher="none") == ("python", "a.py")


def test_accelerate_is_told_of_several_gpus() -> None:
    words = command("python", "train.py", (), gpus=2, launcher="accelerate")
    assert "--num_processes=2" in words
    assert "--multi_gpu" in words
    assert "--multi_gpu" not in command("python", "train.py", (), gpus=1, launcher="accelerate")


@pytest.mark.parametrize(
    ("script", "launcher", "named"),
    [("train.py", "mpirun", "mpirun"), ("train.sh", "torchrun", "not one")],
)
def test_a_launcher_that_cannot_start_the_script_is_refused(
    script: str, launcher: str, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        command("python", script, (), gpus=2, launcher=launcher)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "python -m torch.distributed.launch --nproc_per_node=4 --use_env train.py --epochs 3",
            LauncherLine("torchrun", "train.py", ("--epochs", "3"), "4"),
        ),
        (
            "python3.11 -m torch.distributed.run --standalone --nproc-per-node gpu train.py",
            LauncherLine("torchrun", "train.py", (), "all"),
        ),
        (
            "torchrun --nnodes=1 --nproc_per_node 2 --master_port 29501 train.py -x --nnodes 2",
            LauncherLine("torchrun", "train.py", ("-x", "--nnodes", "2"), "2"),
        ),
        (
            "accelerate launch --num_processes 2 --multi_gpu train.py",
            LauncherLine("accelerate", "train.py", (), "2"),
        ),
        (
            "python -m torch.distributed.launch --nproc_per_node=2 train.py",
            LauncherLine("torch.distributed.launch", "train.py", (), "2"),
        ),
        (
            "torchrun --max-restarts 3 --tee=3 --nproc-per-node 2 train.py --tee 1",
            LauncherLine(
                "torchrun", "train.py", ("--tee", "1"), "2", ("--max-restarts", "3", "--tee=3")
            ),
        ),
        (
            "accelerate launch --mixed_precision bf16 --use_fsdp --fsdp_offload_params true a.py",
            LauncherLine(
                *("accelerate", "a.py", (), None),
                (*("--mixed_precision", "bf16", "--use_fsdp"), "--fsdp_offload_params", "true"),
            ),
        ),
        (
            "python -u -m torch.distributed.run train.py",
            LauncherLine("torchrun", "train.py", (), None),
        ),
        ("venv/bin/torchrun train.py", LauncherLine("torchrun", "train.py", (), None)),
        ("./accelerate launch train.py", LauncherLine("accelerate", "train.py", (), None)),
        ("torchrun train.py", LauncherLine("torchrun", "train.py", (), None)),
    ],
)
def test_a_launcher_line_is_taken_apart(line: str, expected: LauncherLine) -> None:
    assert read_line(shlex.split(line)) == expected


@pytest.mark.parametrize("line", ["--epochs 3", "python train.py", "python -m pkg.train", ""])
def test_other_lines_are_not_touched(line: str) -> None:
    assert read_line(shlex.split(line)) is None


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("torchrun --nnodes=2 --nproc_per_node=4 train.py", "one host"),
        ("torchrun --nproc_per_node=4", "no script"),
        ("torchrun --node_address=x train.py", "node_address"),
        ("torchrun --nproc-per-node 0 train.py", "expected a number from 1"),
        ("torchrun --nproc_per_node", "needs a value"),
        ("torchrun --nproc_per_node=0,1 train.py", "expected a number from 1, or gpu or auto"),
        ("torchrun --nproc_per_node ² train.py", "expected a number"),
    ],
)
def test_a_line_that_cannot_be_kept_is_refused(line: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read_line(shlex.split(line))
