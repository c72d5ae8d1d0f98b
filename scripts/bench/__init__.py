"""The parts of scripts/benchmark.py: one file per group of peers, plus what runs and compares them.

Nothing in this package is imported by gradloop. A file that needs a framework imports it at its
top and is itself imported by a worker process only, so the command line stays quick and a peer may
live in an interpreter of its own.
"""
