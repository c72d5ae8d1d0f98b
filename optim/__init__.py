"""Which variables train and how each is updated: names, filters, groups, rates, and one optimizer."""

from .common.old_paths import keep_old_paths
from .filters.base import Filter, FilterLike
from .filters.by_layer import from_layer, last_layers, layers
from .filters.by_variable import kind, layer_type, name
from .filters.patterns import SelectionError
from .filters.selection import select
from .groups.depths import depths
from .groups.group import Group, KernelDecay
from .groups.layerwise import discriminative, layerwise_decay
from .groups.partition import partition
from .groups.plan import Plan
from .groups.summary_table import summary
from .learning_rate.lr_curve import LRCurve
from .learning_rate.lr_finder import lr_range_test
from .learning_rate.schedules import OneCycle, SlantedTriangular
from .naming.model_tree import VariableInfo
from .naming.stable_names import NotBuiltError, named_variables, variable_infos
from .optimizer.grouped_optimizer import GroupedOptimizer
from .optimizer.named_state import StateError

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

# Where the classes were that earlier versions may have pickled.
keep_old_paths(
    __name__,
    {
        "criteria": "filters.by_variable",
        "depth": "groups.layerwise",
        "group": "groups.group",
        "grouped": "optimizer.grouped_optimizer",
        "layout": "naming.model_tree",
        "lr_curve": "learning_rate.lr_curve",
        "matching": "filters.patterns",
        "names": "naming.stable_names",
        "places": "filters.by_layer",
        "plan": "groups.plan",
        "schedules": "learning_rate.schedules",
        "state": "optimizer.named_state",
    },
)
