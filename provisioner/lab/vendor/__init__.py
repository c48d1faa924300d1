"""The vendor's two package repositories, imitated: signed, served over HTTP, contents SIMULATED."""
