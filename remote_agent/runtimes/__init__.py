"""Ways to run a job's command."""
