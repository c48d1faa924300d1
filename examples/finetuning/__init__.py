"""The parts of finetune_llama.py: data, checkpoints, training loop."""
