"""One training step on chosen variables."""
