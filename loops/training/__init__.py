"""A run: what happens in it, in which order."""
