"""Schedules and the learning-rate finder."""
