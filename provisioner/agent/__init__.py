"""Building, deploying and talking to the remote agent."""
