"""Proves which versions of Python and of the packages pass."""

import pytest

from resnet50.checks.findings import OK, PROBLEM
from resnet50.checks.software import (
    check_packages,
    check_python,
    installed_version,
    read_requirements,
)


@pytest.mark.parametrize(
    ("version", "status"),
    [("3.10.0", OK), ("3.13.9", OK), ("3.9.18", PROBLEM), ("3.14.0", PROBLEM)],
)
def test_python(version, status):
    assert check_python(version, ">=3.10,<3.14").status == status


@pytest.mark.parametrize(
    ("version", "requirement", "status"),
    [
        ("1.26", "numpy>=1.26.0", OK),
        ("1.9", "numpy>=1.26", PROBLEM),
        ("2.1rc1", "numpy>=2", OK),
        ("2.19.0+nv25.3", "tensorflow[and-cuda]<3,>=2.19", OK),
        ("10.2", "pillow (>=10.3)", PROBLEM),
        ("5", "tqdm", OK),
    ],
)
def test_packages(version, requirement, status):
    (finding,) = check_packages([requirement], lambda name: version)
    assert finding.status == status


def test_requirements_of_an_extra_are_skipped():
    assert list(check_packages(["torch>=2; extra == 'bench'"], lambda name: None)) == []


def test_the_projects_own_requirements_are_met_here():
    python, requirements = read_requirements()
    assert python == ">=3.10,<3.14"
    (finding,) = check_packages(requirements)
    assert finding.status == OK
    for name in "numpy", "packaging", "pillow", "tensorflow", "tomli", "tqdm":
        assert f"{name} {installed_version(name)}" in finding.what


def test_a_wrong_package_is_named_with_its_remedy():
    versions = {"numpy": "1.20", "tqdm": "4.66"}
    requirements = ["numpy>=1.26", "tomli>=2", "tqdm>=4"]
    old, missing, right = map(str, check_packages(requirements, versions.get))
    assert old == (
        "problem  packages: numpy 1.20 is installed, but >=1.26 is needed "
        "(python3 -m pip install 'numpy>=1.26')"
    )
    assert missing.startswith("problem  packages: tomli is not installed, but >=2 is")
    assert right == "ok       packages: tqdm 4.66"
    assert installed_version("no-such-package-anywhere") is None
