"""What a host must have: one file each."""
