"""What would stop an installation half-way, told before anything changes. Pure."""
