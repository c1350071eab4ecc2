"""Proves that the three rooms stay apart.

Nothing of the preprocessing process loads TensorFlow; ``handoff`` imports neither of
the rooms that use it, and ``preprocessing`` never imports ``training``.
"""

import ast
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import resnet50.checks
import resnet50.handoff
import resnet50.preprocessing
import resnet50.reports
from tests.processes import ROOT, python_process

ROOMS = (
    resnet50.checks,
    resnet50.handoff,
    resnet50.preprocessing,
    resnet50.reports,
)
MODULES = [
    "resnet50.config",
    "resnet50.config_file",
    "resnet50.command_line",
    "runtime_preprocessing",
    "compute_channel_stats",
    "resnet50.commands.runtime_preprocessing",
    "resnet50.commands.compute_channel_stats",
    "resnet50.commands.demo",
    "resnet50.commands.plot",
    "resnet50.commands.preview",
    "resnet50.commands.doctor",
    "resnet50.commands.status",
    # These two load TensorFlow once they have found nothing wrong without it.
    "resnet50.commands.train",
    "resnet50.commands.evaluate",
    "resnet50.speed",
    *(
        f"{room.__name__}.{module.name}"
        for room in ROOMS
        for module in pkgutil.iter_modules(room.__path__)
    ),
]


@pytest.mark.parametrize("module", MODULES)
def test_module_loads_without_tensorflow(module):
    if not (ROOT / f"{module.replace('.', '/')}.py").exists():
        pytest.skip(f"there is no {module} yet")
    program = f"""if True:
        import sys
        import {module}
        heavy = {{"tensorflow", "keras", "torch", "resnet50.training"}}
        print(sorted(heavy & set(sys.modules)))
    """
    with python_process(program) as process:
        assert process.stdout.read() == "[]\n"
        assert process.wait() == 0


def imported_modules(path: Path) -> set[str]:
    """Full names of all modules that a file imports, at its top or inside."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(dots, package)
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def violations(folder: str, *forbidden: str) -> list[str]:
    """What the files of a folder import of what they must not."""
    files = sorted((ROOT / "resnet50" / folder).rglob("*.py"))
    assert files
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in sorted(imported_modules(path))
        if any(name == room or name.startswith(f"{room}.") for room in forbidden)
    ]


def test_handoff_imports_neither_of_the_rooms_that_use_it():
    assert violations("handoff", "resnet50.preprocessing", "resnet50.training") == []


def test_preprocessing_never_imports_training():
    assert violations("preprocessing", "resnet50.training") == []


def test_only_training_and_commands_may_name_tensorflow():
    for folder in ("checks", "handoff", "preprocessing"):
        assert violations(folder, "tensorflow", "keras") == []


def test_modules_do_not_read_the_command_line():
    for folder in ("checks", "handoff", "preprocessing"):
        assert violations(folder, "argparse", "resnet50.command_line") == []


def test_the_search_for_imports_finds_them(tmp_path, monkeypatch):
    """In every form, so that an empty result above means something."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "resnet50" / "handoff" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import numpy.linalg\n"
        "from ..training import step\n"
        "def late():\n"
        "    from resnet50 import preprocessing\n"
    )
    assert violations("handoff", "resnet50.training", "resnet50.preprocessing") == [
        "resnet50/handoff/module.py imports resnet50.preprocessing",
        "resnet50/handoff/module.py imports resnet50.training",
        "resnet50/handoff/module.py imports resnet50.training.step",
    ]
    assert violations("handoff", "numpy") == [
        "resnet50/handoff/module.py imports numpy.linalg"
    ]
