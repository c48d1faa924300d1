"""What is wrong with a host, or what a captured log tells: cause, evidence, fix, source."""
