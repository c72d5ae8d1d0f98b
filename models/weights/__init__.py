"""Weights in files, by name."""
