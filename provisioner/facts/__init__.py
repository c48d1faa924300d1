"""What is true on a host: one file per subject."""
