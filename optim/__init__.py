"""Which variables train and how each is updated: names, filters, groups, rates, and one optimizer."""

from .criteria import kind, layer_type, name
from .depth import depths, discriminative, layerwise_decay
from .filters import Filter, FilterLike
from .group import Group, KernelDecay
from .grouped import GroupedOptimizer
from .layout import VariableInfo
from .lr_curve import LRCurve
from .matching import SelectionError
from .names import NotBuiltError, named_variables, variable_infos
from .places import from_layer, last_layers, layers
from .plan import Plan, partition
from .range_test import lr_range_test
from .schedules import OneCycle, SlantedTriangular
from .select import select
from .state import StateError
from .summary import summary

__all__ = [
    "Filter",
    "FilterLike",
    "Group",
    "GroupedOptimizer",
    "KernelDecay",
    "LRCurve",
    "NotBuiltError",
    "OneCycle",
    "Plan",
    "SelectionError",
    "SlantedTriangular",
    "StateError",
    "VariableInfo",
    "depths",
    "discriminative",
    "from_layer",
    "kind",
    "last_layers",
    "layer_type",
    "layers",
    "layerwise_decay",
    "lr_range_test",
    "name",
    "named_variables",
    "partition",
    "select",
    "summary",
    "variable_infos",
]
