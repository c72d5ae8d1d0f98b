"""Stable names for variables."""
