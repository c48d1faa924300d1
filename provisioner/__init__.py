"""Everything that reaches a host: transport, facts, steps, containers, the agent's client."""
