#!/usr/bin/env python3
"""Fine-tune a causal language model with LoRA on a file of instructions and responses.

Without --model_name it trains a tiny, randomly initialised Llama with its own tokenizer: no
download, no GPU, well under a minute. Runs alone or under torchrun: `invoke train --script
finetune_llama.py --gpus 4` starts one process per GPU.

The data file holds one JSON object per line: {"instruction": …, "response": …} or {"text": …}.
The output directory gets checkpoint-N/ (adapter and trainer state), final/ (adapter and
tokenizer), metrics.jsonl, tensorboard/ and, for the tiny model, base/ (its frozen weights).

Exit codes: 0 trained; 2 bad arguments, data or model; 130 or 143 stopped by SIGINT or SIGTERM,
with a checkpoint saved.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from finetuning.checkpoints import list_checkpoints
from finetuning.instruction_data import Example, Problem, encode, read_examples

HERE = Path(__file__).resolve().parent
MODEL_LEARNING_RATE, MODEL_EPOCHS = 2e-4, 3.0
TINY_LEARNING_RATE, TINY_EPOCHS = 5e-3, 40.0


def main(argv: list[str] | None = None) -> int:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    args = parse_arguments(argv)
    try:
        examples = read_examples(args.data_path)
        resumed = find_checkpoint(args)
        if os.environ.get("RANK", "0") == "0":  # importing PyTorch takes seconds
            print(f"{len(examples)} examples of {args.data_path.name}; loading PyTorch")
        return train(args, examples, resumed)
    except Problem as problem:
        print(f"finetune_llama: {problem}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        needed = "torch transformers peft tensorboard"
        print(f"finetune_llama: {error}; try: pip install {needed}", file=sys.stderr)
        return 2


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--model_name", help="model hub name or local directory (default: a tiny random Llama)")
    add("--data_path", type=Path, default=HERE / "data" / "instructions.jsonl")
    add(
        "--output_dir",
        type=Path,
        default=Path(os.environ.get("RIGUP_OUTPUT_DIR") or "outputs"),
        help="default: $RIGUP_OUTPUT_DIR, else ./outputs",
    )
    add("--epochs", type=above_zero, help=f"default {MODEL_EPOCHS:g}; tiny: {TINY_EPOCHS:g}")
    add("--max_steps", type=at_least_one, help="stop after this many optimizer steps")
    add("--batch_size", type=at_least_one, default=8, help="examples per process and pass")
    add("--gradient_accumulation_steps", type=at_least_one, default=1)
    add(
        "--learning_rate",
        type=above_zero,
        help=f"default {MODEL_LEARNING_RATE:g}; tiny: {TINY_LEARNING_RATE:g}",
    )
    add("--warmup_steps", type=at_least_one, default=5)
    add("--max_length", type=at_least_one, default=512, help="tokens per example")
    add("--lora_r", type=at_least_one, default=8)
    add("--lora_alpha", type=at_least_one, default=16)
    add("--lora_dropout", type=float, default=0.05)
    add("--seed", type=int, default=42)
    add("--save_steps", type=at_least_one, default=100)
    add("--logging_steps", type=at_least_one, default=10)
    add(
        "--resume_from_checkpoint",
        nargs="?",
        const="latest",
        help="a checkpoint directory, or `latest`: the newest in the output directory, if any",
    )
    add("--bf16", nargs="?", const="true", default="auto", choices=("auto", "true", "false"))
    args = parser.parse_args(argv)
    if not 0 <= args.lora_dropout < 1:
        parser.error("--lora_dropout: expected 0 or more and below 1")
    args.epochs = args.epochs or (MODEL_EPOCHS if args.model_name else TINY_EPOCHS)
    args.learning_rate = args.learning_rate or (
        MODEL_LEARNING_RATE if args.model_name else TINY_LEARNING_RATE
    )
    return args


def at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value


def above_zero(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def find_checkpoint(args: argparse.Namespace) -> Path | None:
    """The checkpoint to go on from; raises Problem when it is missing or would be overwritten."""
    asked = args.resume_from_checkpoint
    if asked and asked != "latest":
        if not (Path(asked) / "trainer_state.json").is_file():
            raise Problem(f"{asked} is not a checkpoint: it has no trainer_state.json")
        return Path(asked)
    existing = list_checkpoints(args.output_dir)
    if existing and not asked:
        raise Problem(
            f"{args.output_dir} already holds {existing[-1].name}; "
            "try --resume_from_checkpoint, or another --output_dir"
        )
    return existing[-1] if existing else None


def train(args: argparse.Namespace, examples: list[Example], resumed: Path | None) -> int:
    """The whole run on this process; returns the exit code."""
    prepare_libraries(tiny=not args.model_name)
    from finetuning.training_loop import Trainer, join_ranks, pick_device, wants_bf16

    ranks = join_ranks()
    device = pick_device(ranks)
    bf16 = wants_bf16(args.bf16, device)
    base, tokenizer = load_base(args, examples, resumed, ranks)
    model = add_lora(base, args, resumed, bf16).to(device)
    rows = encode(examples, tokenizer, args.max_length)
    trainer = Trainer(model, tokenizer, rows, args, ranks, device, bf16)
    return trainer.run(resumed)


def prepare_libraries(*, tiny: bool) -> None:
    """Settings that must stand before the libraries are imported."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if tiny:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        # The tiny model gains nothing from a second thread, and on a busy machine two threads
        # that wait for each other made a 15 s run take over a minute.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def load_base(
    args: argparse.Namespace, examples: list[Example], resumed: Path | None, ranks: Any
) -> Any:
    """The base model and its tokenizer: the named one, or the tiny one in output_dir/base.

    The tiny one is made anew, or copied from beside the checkpoint, by the first process.
    """
    if args.model_name:
        return load_named(args.model_name)
    earlier = resumed.parent / "base" if resumed else None
    directory = args.output_dir / "base"
    if ranks.rank == 0 and directory != earlier:
        pair = load_named(str(earlier)) if earlier else make_tiny(examples, args.seed)
        for part in pair:
            part.save_pretrained(str(directory))
    ranks.wait_for_all()
    return load_named(str(directory))


def load_named(name: str) -> Any:
    """Model and tokenizer by hub name or directory; raises Problem when they cannot be had."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), repr(error))
        raise Problem(
            f"the model {name} cannot be loaded: {reason}\n"
            "  try: check the name; log in to the model hub if the model is gated; set\n"
            "  HF_ENDPOINT to a mirror that this machine reaches; or give a local directory"
        ) from None
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return model, tokenizer


def make_tiny(examples: list[Example], seed: int) -> Any:
    """A 2-layer Llama with random weights and a byte-level tokenizer trained on the data."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = trainers.BpeTrainer(
        vocab_size=768,
        special_tokens=["<s>", "</s>", "<pad>"],  # ids 0, 1, 2
        initial_alphabet=alphabet,
        show_progress=False,
    )
    plain.train_from_iterator([example.prompt + example.answer for example in examples], bpe)
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    fast: Any = PreTrainedTokenizerFast  # its constructor is not typed
    tokenizer = fast(tokenizer_object=plain, **special)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config), tokenizer


def add_lora(base: Any, args: argparse.Namespace, resumed: Path | None, bf16: bool) -> Any:
    """LoRA on every linear layer, new or from the checkpoint.

    The tiny model knows nothing yet, so its embeddings and output layer are trained as well.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    base = base.to(torch.bfloat16 if bf16 and args.model_name else torch.float32)
    torch.manual_seed(args.seed)
    if resumed:
        return PeftModel.from_pretrained(base, str(resumed), is_trainable=True)
    config = LoraConfig(
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules="all-linear",
        modules_to_save=None if args.model_name else ["embed_tokens", "lm_head"],
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)


if __name__ == "__main__":
    sys.exit(main())
