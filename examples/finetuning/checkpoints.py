"""Training checkpoints on disk: complete or absent, never half written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

STATE_FILE, OPTIMIZER_FILE = "trainer_state.json", "optimizer.pt"


def list_checkpoints(output_dir: Path) -> list[Path]:
    """The complete checkpoint-N directories, oldest first; none where there is no directory."""
    found = (path for path in output_dir.glob("checkpoint-*") if (path / STATE_FILE).is_file())
    numbered = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in found)
    return [path for _, path in sorted((int(m[1]), path) for m, path in numbered if m)]


def save_checkpoint(
    output_dir: Path, state: dict[str, Any], model: Any, tokenizer: Any, optimizer: Any
) -> Path:
    """Write checkpoint-<state["step"]> under a temporary name, then rename it."""
    import torch

    final = output_dir / f"checkpoint-{state['step']}"
    partial = output_dir / f".partial-{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(str(partial))
    tokenizer.save_pretrained(str(partial))
    torch.save(optimizer.state_dict(), partial / OPTIMIZER_FILE)
    (partial / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return final


def restore_optimizer(checkpoint: Path, optimizer: Any, device: Any) -> dict[str, Any]:
    """Load the optimizer's state in place; returns the trainer state."""
    import torch

    saved = torch.load(checkpoint / OPTIMIZER_FILE, map_location=device, weights_only=True)
    optimizer.load_state_dict(saved)
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    return state
