"""SSH-enabled PyTorch containers: image, specification, engine."""
