"""What the agent and its clients say to each other. Standard library only, no I/O."""
