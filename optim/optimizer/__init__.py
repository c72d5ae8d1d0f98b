"""The optimizer that users hold."""
