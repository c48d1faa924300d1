"""The remote agent's other end: build it, put it on a host, talk to it."""
