"""Proves that docs/network.md repeats the tables, formulas and numbers of the code.

tests/network and tests/training prove those in the code's docstrings.
"""

import inspect
import re

import pytest

from resnet50.network import bottleneck, model, normalization
from resnet50.training.update import lamb, optimizer
from resnet50.training.update.loss_scale import GROWTH_UPDATES, INITIAL_SCALE
from tests.docs.documents import read
from tests.settings import PROJECT, SETTINGS

PAGE = read("network.md")
ROWS = {line.strip() for line in PAGE.splitlines()}
PROSE = " ".join(PAGE.split())


def indented(docstring):
    """The lines of a docstring's tables and formulas."""
    lines = inspect.cleandoc(docstring).splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


@pytest.mark.parametrize(
    ("documented", "num_lines"),
    [
        (normalization.BatchRenormalization, 3),
        (bottleneck.Bottleneck, 2),
        (optimizer.SGDMomentum, 3),
        (lamb.Lamb, 7),
    ],
)
def test_formulas_are_those_of_the_docstrings(documented, num_lines):
    lines = indented(documented.__doc__.split("Attributes:")[0])
    assert len(lines) == num_lines
    assert set(lines) <= ROWS


def test_the_table_is_that_of_the_module():
    table = [
        line.strip() for line in model.__doc__.splitlines() if "  " in line.strip()
    ]
    assert len(table) == 8
    assert set(table) <= ROWS
    assert "53,120 moving means and variances" in " ".join(model.__doc__.split())
    assert "53,120 moving means and variances" in PROSE


def test_numbers_are_those_of_the_code():
    assert f"`default_rng([seed, {model.WEIGHT_INITIALIZATION}])`" in PAGE
    assert INITIAL_SCALE == 2**15 and "a scale, 2^15 at first" in PROSE
    assert f"after {GROWTH_UPDATES} good updates it is doubled" in PROSE
    renorm = SETTINGS.batch_renorm
    assert (
        f"r_max rises linearly from 1 to {renorm.r_max:g} between steps "
        f"{renorm.r_start_step:,} and {renorm.r_end_step:,}, d_max from 0 to "
        f"{renorm.d_max:g} between {renorm.d_start_step:,} and {renorm.d_end_step:,}"
    ) in PROSE


def test_the_tests_that_it_names_are_there():
    paths = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert len(paths) >= 5
    for path in paths:
        assert (PROJECT / path).exists(), path
