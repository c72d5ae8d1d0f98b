"""What a run leaves behind and finds again."""

# Pickles written when this room was one file look for it here.
from .checkpoint import Checkpoint
