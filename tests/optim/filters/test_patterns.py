"""Globs against a table of cases, near misses."""

import fnmatch
import re

import pytest

from gradloop import optim
from gradloop.optim.filters.patterns import glob_regex, near_misses

NAME = "vgg16/block5_conv2/kernel"


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("conv?", "conv1/kernel", True),
        ("conv?", "conv10/kernel", False),
        ("conv?", "conv/kernel", False),
        ("conv?", "my_conv1/kernel", False),
        ("block5*", NAME, True),
        ("lock5*", NAME, False),
        ("*conv*", NAME, True),
        ("*conv", NAME, False),
        ("vgg16/*/kernel", NAME, True),
        ("vgg16/*", NAME, True),
        ("vgg16*kernel", NAME, True),
        ("kern[ao]l", NAME, False),
        ("kern[de]l", NAME, True),
        ("block[45]_*", NAME, True),
        ("block[!45]_*", NAME, False),
        ("block[4-6]_conv[0-9]", NAME, True),
        ("vgg16?block5_conv2", NAME, False),
        ("vgg16[!a]block5_conv2", NAME, False),
        ("vgg16[+-0]block5_conv2", NAME, False),
        ("**/kernel", NAME, True),
        ("*", NAME, True),
        ("b[]x]c?", "b]c1/kernel", True),
        ("b[c?", "b[c1/kernel", True),
        ("a[]?", "a[]1/kernel", True),
        ("x[&&~|^]?", "x^1", True),
        ("a.c*", "abc", False),
        ("a.c*", "a.cd/e", True),
    ],
)
def test_glob(pattern, name, matches):
    assert bool(glob_regex(pattern).search(name)) is matches


@pytest.mark.parametrize("pattern", ["conv*", "*", "c?nv1", "[bc]onv*", "[!b]onv1", "conv", "*1"])
@pytest.mark.parametrize("name", ["conv1", "conv", "bonv1", "cnv1", "conv11"])
def test_glob_on_one_component_is_fnmatch(pattern, name):
    assert bool(glob_regex(pattern).search(name)) == fnmatch.fnmatchcase(name, pattern)


def test_impossible_range_in_a_glob():
    with pytest.raises(optim.SelectionError, match=r"`pattern` 'conv\[9-1\]' is not a valid glob"):
        glob_regex("conv[9-1]")


def test_near_misses_are_five_at_most():
    names = [f"conv{n}" for n in range(9)]
    assert len(re.findall("conv", near_misses("cnov", names))) == 5
    assert near_misses("elephant", names) == ""


def test_case_is_told_before_near_misses():
    assert near_misses("CONV*", ["conv1", "c"]) == " Only the case differs from: conv1."
