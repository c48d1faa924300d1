"""`invoke --list` shows what there is."""
