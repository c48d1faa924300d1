"""What differs between OS families: one file each."""
