"""Which variables train: stable names, selection by filters, and a table of the result."""

from .criteria import kind, layer_type, name
from .filters import Filter, FilterLike
from .layout import VariableInfo
from .matching import SelectionError
from .names import NotBuiltError, named_variables, variable_infos
from .places import from_layer, last_layers, layers
from .select import select
from .summary import summary

__all__ = [
    "Filter",
    "FilterLike",
    "NotBuiltError",
    "SelectionError",
    "VariableInfo",
    "from_layer",
    "kind",
    "last_layers",
    "layer_type",
    "layers",
    "name",
    "named_variables",
    "select",
    "summary",
    "variable_infos",
]
