"""A plain training loop: one process alone, or one per GPU under torchrun."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed

from finetuning.checkpoints import restore_optimizer, save_checkpoint
from finetuning.instruction_data import Encoded, Problem, collate, epoch_steps

MAX_GRADIENT_NORM = 1.0


class Ranks(NamedTuple):
    """This process among those that torchrun started; (0, 1, 0) alone."""

    rank: int
    world: int
    local: int

    def wait_for_all(self) -> None:
        if self.world > 1:
            torch.distributed.barrier()

    def add_up(self, values: list[float], device: torch.device) -> list[float]:
        """The element-wise sum over all processes."""
        if self.world == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def highest(self, value: int, device: torch.device) -> int:
        """The largest of all processes' values."""
        if self.world == 1:
            return value
        largest = torch.tensor(value, device=device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest.item())


def join_ranks() -> Ranks:
    """Join the process group when torchrun started us."""
    names = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    ranks = Ranks(*(int(os.environ.get(name, default)) for name, default in names))
    if ranks.world > 1:
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return ranks


def pick_device(ranks: Ranks) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(ranks.local)
    return torch.device("cuda", ranks.local)


def wants_bf16(choice: str, device: torch.device) -> bool:
    """Whether to train in bf16; auto means a GPU that has it in hardware (Ampere or newer)."""
    has_it = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if choice == "true" and device.type == "cuda" and not has_it:
        raise Problem("--bf16: this GPU has no bf16 (compute capability below 8.0)")
    return has_it if choice == "auto" else choice == "true"


class Trainer:
    """Trains ``model`` on ``rows``; every process of a run makes one."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        rows: list[Encoded],
        args: argparse.Namespace,
        ranks: Ranks,
        device: torch.device,
        bf16: bool,
    ) -> None:
        self.model, self.tokenizer, self.rows = model, tokenizer, rows
        self.args, self.ranks, self.device, self.bf16 = args, ranks, device, bf16
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=args.learning_rate)
        self.steps_per_epoch = len(self._epoch(0))
        self.total_steps = args.max_steps or math.ceil(args.epochs * self.steps_per_epoch)
        self.step = 0
        self.stop_signal = 0
        self.replica = model
        if ranks.world > 1:
            self.replica = torch.nn.parallel.DistributedDataParallel(model)

    def run(self, resumed: Path | None) -> int:
        """Train to the end, or to a SIGTERM or SIGINT; returns the exit code."""
        if resumed:
            self.step = restore_optimizer(resumed, self.optimizer, self.device)["step"]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)
        reporter = Reporter(self.args, self.step, active=self.ranks.rank == 0)
        reporter.say(self._introduction(resumed))
        self.model.train()
        last_saved = self.step
        while self.step < self.total_steps and not self._stopped():
            reporter.record(self._one_step(), self.step, self.total_steps)
            if self.step % self.args.save_steps == 0:
                last_saved = self._save(reporter)
        if self.step > last_saved:
            self._save(reporter)
        return self._finish(reporter)

    def _epoch(self, number: int) -> list[list[list[int]]]:
        args, ranks = self.args, self.ranks
        seed = args.seed * 1_000_003 + number
        passes = args.gradient_accumulation_steps
        return epoch_steps(len(self.rows), seed, args.batch_size, passes, ranks.rank, ranks.world)

    def _note_signal(self, number: int, _frame: object) -> None:
        self.stop_signal = number

    def _stopped(self) -> bool:
        """Whether any process was told to stop; all of them agree on the answer."""
        self.stop_signal = self.ranks.highest(self.stop_signal, self.device)
        return self.stop_signal > 0

    def _one_step(self) -> dict[str, float]:
        """One optimizer step; the mean loss and token count over all processes."""
        epoch, index = divmod(self.step, self.steps_per_epoch)
        passes = self._epoch(epoch)[index]
        torch.manual_seed(hash((self.args.seed, self.step, self.ranks.rank)) % 2**63)
        rate = self._learning_rate()
        losses, tokens = [], 0
        for number, indices in enumerate(passes, 1):
            self.replica.require_backward_grad_sync = number == len(passes)
            batch = collate([self.rows[i] for i in indices], self.tokenizer.pad_token_id)
            losses.append(self._backward(batch, len(passes)))
            tokens += sum(map(sum, batch["attention_mask"]))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        loss, total = self.ranks.add_up([sum(losses), tokens], self.device)
        return {
            "loss": loss / self.ranks.world,
            "learning_rate": rate,
            "epoch": self.step / self.steps_per_epoch,
            "tokens": total,
        }

    def _backward(self, batch: dict[str, list[list[int]]], passes: int) -> float:
        tensors = {key: torch.tensor(value, device=self.device) for key, value in batch.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.replica(**tensors).loss / passes
        loss.backward()
        return float(loss.item())

    def _learning_rate(self) -> float:
        """Linear warm-up, then linear decay to zero: a function of the step alone."""
        warm = min(1.0, (self.step + 1) / self.args.warmup_steps)
        return float(self.args.learning_rate * warm * (1 - self.step / self.total_steps))

    def _save(self, reporter: Reporter) -> int:
        if self.ranks.rank == 0:
            state = {"step": self.step, "total_steps": self.total_steps, "seed": self.args.seed}
            out = self.args.output_dir
            path = save_checkpoint(out, state, self.model, self.tokenizer, self.optimizer)
            reporter.say(f"saved {path}")
        self.ranks.wait_for_all()
        return self.step

    def _finish(self, reporter: Reporter) -> int:
        if self.stop_signal:
            reporter.say(f"stopped by {signal.Signals(self.stop_signal).name} at step {self.step}")
        elif self.ranks.rank == 0:
            final = self.args.output_dir / "final"
            self.model.save_pretrained(str(final))
            self.tokenizer.save_pretrained(str(final))
            reporter.say(f"done: step {self.step}, adapter in {final}")
        reporter.close()
        if self.ranks.world > 1:
            self.ranks.wait_for_all()  # a process that loses its peers while it works is aborted
            torch.distributed.destroy_process_group()
        return 128 + self.stop_signal if self.stop_signal else 0

    def _introduction(self, resumed: Path | None) -> str:
        trained = sum(p.numel() for p in self.parameters)
        everything = sum(p.numel() for p in self.model.parameters())
        start = f"resuming from {resumed} at step {self.step}" if resumed else "starting"
        return (
            f"{start}: {self.args.model_name or 'tiny random Llama'} on {self.device}"
            f" x{self.ranks.world}{' in bf16' if self.bf16 else ''},"
            f" {trained:,} of {everything:,} parameters trained,"
            f" {len(self.rows)} examples, {self.total_steps} steps"
        )


class Reporter:
    """Progress on standard output, in metrics.jsonl and for TensorBoard; silent unless active."""

    def __init__(self, args: argparse.Namespace, step: int, *, active: bool) -> None:
        self.active, self.every = active, args.logging_steps
        self.started = self.window_started = time.monotonic()
        self.window: list[dict[str, float]] = []
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter

        args.output_dir.mkdir(parents=True, exist_ok=True)
        self.metrics_path = args.output_dir / "metrics.jsonl"
        self._forget_after(step)
        self.board = SummaryWriter(str(args.output_dir / "tensorboard"), purge_step=step + 1)

    def say(self, line: str) -> None:
        if self.active:
            print(line, flush=True)

    def record(self, measured: dict[str, float], step: int, total: int) -> None:
        """Take in one step; report at every logging step, at the first and at the last."""
        self.window.append(measured)
        if step in (1, total) or step % self.every == 0:
            self._report(step, total)

    def _report(self, step: int, total: int) -> None:
        now = time.monotonic()
        window, self.window = self.window, []
        speed = sum(m["tokens"] for m in window) / max(now - self.window_started, 1e-9)
        self.window_started = now
        if not self.active:
            return
        row = {
            "step": step,
            "loss": round(sum(m["loss"] for m in window) / len(window), 6),
            "learning_rate": window[-1]["learning_rate"],
            "epoch": round(window[-1]["epoch"], 4),
            "tokens_per_second": round(speed, 1),
            "seconds": round(now - self.started, 3),
        }
        with self.metrics_path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        for name in ("loss", "learning_rate", "tokens_per_second"):
            self.board.add_scalar(f"train/{name}", row[name], step)
        self.board.flush()
        self.say(
            f"step {step}/{total}  loss {row['loss']:.4f}  lr {row['learning_rate']:.2e}"
            f"  epoch {row['epoch']:.2f}  {speed:,.0f} tokens/s"
        )

    def close(self) -> None:
        if self.active:
            self.board.close()

    def _forget_after(self, step: int) -> None:
        """Drop the rows of steps that will be run again."""
        if not self.metrics_path.exists():
            return
        rows = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [row for row in rows if json.loads(row)["step"] <= step]
        self.metrics_path.write_text("".join(kept), encoding="utf-8")
