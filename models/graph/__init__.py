"""Cutting and joining Functional models."""
