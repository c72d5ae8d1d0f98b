"""What the programs in scripts/ have in common. Nothing is imported here: see README.md for the files."""
