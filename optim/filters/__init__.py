"""How variables are chosen."""

# Pickles written when this room was one file look for them here.
from .base import _Both, _Either, _Not
