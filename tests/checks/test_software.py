"""Proves which versions are within the bounds of pyproject.toml."""

import pytest

from resnet50.checks.findings import OK, PROBLEM
from resnet50.checks.software import (
    check_packages,
    check_python,
    installed_version,
    is_within,
    parse_bounds,
    read_bounds,
)


@pytest.mark.parametrize(
    ("version", "bounds", "expected"),
    [
        ("3.10", ">=3.10,<3.14", True),
        ("3.9.18", ">=3.10,<3.14", False),
        ("3.14.0", ">=3.10,<3.14", False),
        ("3.13.9", "<3.14,>=3.10", True),
        ("1.26.0", ">=1.26", True),
        ("1.26", ">=1.26.0", True),
        ("1.9", ">=1.26", False),
        ("2.0.1rc1", ">=2.0.1", True),
        ("5", "", True),
    ],
)
def test_versions_compare_as_numbers(version, bounds, expected):
    assert is_within(version, bounds) == expected


def test_requirements_of_a_file_and_of_an_installed_package():
    bounds = parse_bounds(
        ">=3.10",
        [
            "numpy>=1.26",
            "tqdm",
            "tensorflow[and-cuda]>=2.20,<3",
            "pillow (>=10.3)",
            "torch>=2; extra == 'bench'",
        ],
    )
    assert bounds.packages == {
        "numpy": ">=1.26",
        "tqdm": "",
        "tensorflow": ">=2.20,<3",
        "pillow": ">=10.3",
    }


def test_the_projects_own_bounds_are_met_here():
    bounds = read_bounds()
    assert {"tensorflow", "numpy", "pillow", "tomli", "tqdm"} <= bounds.packages.keys()
    (finding,) = check_packages(bounds.packages)
    assert finding.status == OK
    assert f"numpy {installed_version('numpy')}" in finding.what


def test_what_is_wrong_is_named_with_its_command():
    versions = {"numpy": "1.20", "tqdm": "4.66"}
    bounds = {"numpy": ">=1.26", "tomli": ">=2", "tqdm": ">=4"}
    old, missing, right = map(str, check_packages(bounds, versions.get))
    assert old == (
        "problem  packages: numpy 1.20 is installed, needed is >=1.26 "
        "(python3 -m pip install 'numpy>=1.26')"
    )
    assert missing.startswith("problem  packages: tomli is not installed")
    assert right == "ok       packages: tqdm 4.66"
    assert check_python("3.9.1", ">=3.10").status == PROBLEM
    assert installed_version("no-such-package-anywhere") is None
