"""Sums, norms and sparse rows of gradients."""
