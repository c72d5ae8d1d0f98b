"""Batches, and where reading them stands."""
