"""The inside of scripts/benchmark.py; nothing is imported here, since workers import one framework each."""
