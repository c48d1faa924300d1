"""The agent that runs on a host: standard library only, Python >= 3.8, shipped as one zipapp."""
