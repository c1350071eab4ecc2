"""Proves that docs/configuration.md agrees with the code, and the code with it."""

import dataclasses
import re
from pathlib import Path

import pytest

from docs.make_configuration import DOCUMENT, flags, make_document
from resnet50 import command_line
from resnet50.config.settings import Config

SETTINGS = [
    pytest.param(field, id=f"{section.name}-{field.name}")
    for section in dataclasses.fields(Config)
    for field in dataclasses.fields(section.type)
]


def test_the_page_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf-8") == make_document(), (
        "renew it with: python3 -m docs.make_configuration"
    )


@pytest.mark.parametrize("section", dataclasses.fields(Config), ids=lambda f: f.name)
def test_every_key_is_named(section):
    page = DOCUMENT.read_text(encoding="utf-8")
    _, _, rest = page.partition(f"## [{section.name}]\n")
    part = re.split(r"^## ", rest, flags=re.MULTILINE)[0]
    for field in dataclasses.fields(section.type):
        assert f"* `{field.name} = " in part


def accepts(field, value):
    try:
        field.metadata["check"](value, Path("/"))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("field", SETTINGS)
def test_what_a_key_expects_is_what_its_check_accepts(field):
    expects = field.metadata["expects"]
    whole, number = "whole number, ", "number, "
    if expects.startswith((whole, number)):
        is_whole = expects.startswith(whole)
        words = expects.split(", ", 1)[1].replace(",", "")
        limits = [(int if is_whole else float)(n) for n in re.findall(r"[\d.]+", words)]
        step = 1 if is_whole else 1e-9
        is_open = "above" in words
        assert accepts(field, limits[0]) != is_open
        assert accepts(field, limits[0] + step)
        assert not accepts(field, limits[0] - step)
        assert is_whole != accepts(field, limits[0] + 0.5) or len(limits) == 2
        if len(limits) == 2:
            is_open = "below" in words
            assert accepts(field, limits[1]) != is_open
            assert accepts(field, limits[1] - step)
            assert not accepts(field, limits[1] + max(step, 1e-9 * limits[1]))
        else:
            assert accepts(field, 10**9)
    elif expects.startswith("true"):
        assert accepts(field, True) and accepts(field, False)
        assert not accepts(field, 1) and not accepts(field, "true")
        assert accepts(field, "auto") == expects.endswith('"auto"')
    elif expects.startswith('"" or '):
        (example,) = re.findall(r'"([^"]+)"', expects[2:])
        assert accepts(field, "") and accepts(field, example)
        assert not accepts(field, "other")
    elif expects.startswith('"'):
        choices = re.findall(r'"([^"]+)"', expects)
        assert len(choices) > 1 and all(accepts(field, c) for c in choices)
        assert not accepts(field, "other")
    elif expects.startswith("path"):
        assert accepts(field, "some/where") and not accepts(field, 1)
        assert accepts(field, "") == ('or ""' in expects)
    elif expects.startswith("list of three numbers"):
        assert accepts(field, [0.5, 1, 0.1]) and not accepts(field, [0.5, 0.5])
        least, most = map(float, re.findall(r"each (.+) to (.+)", expects)[0])
        assert accepts(field, [least, most, 0.5])
        assert not accepts(field, [0.5, least - 1e-9, 0.5])
        assert not accepts(field, [0.5, 0.5, most + 1e-9])
    elif expects.startswith("list of two numbers"):
        least, most = map(float, re.findall(r"each (.+) to (.+)", expects)[0])
        assert accepts(field, [least, most]) and accepts(field, [most, most])
        assert not accepts(field, [least]) and not accepts(field, [most, least])
        assert not accepts(field, [least - 1e-9, most])
        assert not accepts(field, [least, most + 1e-9])
    elif expects == "list of numbers above 0, ascending":
        assert accepts(field, []) and accepts(field, [1, 2.5])
        assert not accepts(field, [0, 1]) and not accepts(field, [2, 1])
    else:
        assert expects == "list of pairs of whole numbers: epoch, and size from 32"
        assert accepts(field, []) and accepts(field, [[0, 32], [30, 192]])
        assert not accepts(field, [[0, 31]]) and not accepts(field, [[0, 32.5]])


def test_flags_are_those_of_the_parsers():
    """Every flag in the page belongs to a program and to the right section."""
    keys = {key: section for section, key in flags()}
    help_of_all = command_line.make_parser("", *keys).format_help()
    for key, section in keys.items():
        assert f"--{key}" in help_of_all and f"in [{section}]" in help_of_all
    programs = flags()["train", "batch_size"]
    assert {"train.py", "runtime_preprocessing.py"} <= set(programs)
