"""Proves that the rooms stay apart, and who may import whom.

Only ``network`` and ``training`` load TensorFlow, and a command when it reaches them.
Modules are found, not listed, so that a new one is checked too.
"""

import ast
import importlib.util
from pathlib import Path

import pytest

from tests.processes import ROOT, python_process

# Which may load TensorFlow. Commands load them only when they run.
HEAVY_ROOMS = ("resnet50.network", "resnet50.training")

# The rooms whose modules each room may import, besides its own and the modules that
# stand alone in resnet50/.
MAY_IMPORT = {
    "config": set(),
    "handoff": {"config"},
    "dataset": {"config"},
    "pixels": {"config"},
    "preprocessing": {"config", "handoff", "dataset", "pixels"},
    "network": {"config", "pixels"},
    "training": {
        "config",
        "handoff",
        "dataset",
        "pixels",
        "network",
        "reports",
        "checks",
    },
    "reports": {"config", "handoff", "dataset", "pixels", "preprocessing"},
    "checks": {"config", "handoff", "dataset", "preprocessing"},
    "demo": {"config"},
}

LOOK_AT_EACH = """if True:
    import importlib, sys
    heavy = {"tensorflow", "keras", "torch"}
    for name in sys.argv[1:]:
        importlib.import_module(name)
        found = sorted(heavy & set(sys.modules))
        if found:
            print(name, "loads", *found)
            break
    else:
        print("none of", len(sys.argv) - 1)
"""


def is_in(module: str, *packages: str) -> bool:
    """Whether a module is a package of some, or in one at any depth."""
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def all_modules() -> list[str]:
    """Full names of all modules of the package, at any depth, and of the scripts."""
    paths = [*(ROOT / "resnet50").rglob("*.py"), *ROOT.glob("*.py")]
    names = (".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths)
    return sorted(name.removesuffix(".__init__") for name in names)


def what_loads_tensorflow(modules: list[str], **process) -> str:
    """Loads modules one after the other; tells the first that loads TensorFlow."""
    with python_process(LOOK_AT_EACH, *modules, **process) as it:
        return it.stdout.read()


def test_no_other_module_loads_tensorflow():
    """One process loads all of them, so the first that loads TensorFlow is named."""
    modules = all_modules()
    light = [m for m in modules if not is_in(m, *HEAVY_ROOMS)]
    # train.py and __main__ load a command only when they run.
    assert {"train", "resnet50.__main__", "resnet50.handoff.reader"} <= set(light)
    assert what_loads_tensorflow(light) == f"none of {len(light)}\n"


def test_a_module_that_loads_tensorflow_is_named(tmp_path, monkeypatch):
    """Even in a room inside a room, and after a module that does not load it."""
    room = tmp_path / "resnet50" / "handoff" / "deep"
    room.mkdir(parents=True)
    for name in "resnet50/__init__.py", "resnet50/light.py", "tensorflow.py":
        (tmp_path / name).touch()
    (room / "bad.py").write_text("import tensorflow")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    *modules, tensorflow = all_modules()
    assert modules == ["resnet50", "resnet50.handoff.deep.bad", "resnet50.light"]
    assert tensorflow == "tensorflow"
    assert what_loads_tensorflow(modules[::-1], cwd=tmp_path) == (
        "resnet50.handoff.deep.bad loads tensorflow\n"
    )


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
        if is_in(name, *forbidden)
    ]


def test_every_room_is_in_the_table():
    rooms = {path.parent.name for path in (ROOT / "resnet50").glob("*/__init__.py")}
    assert rooms == {*MAY_IMPORT, "commands"}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_that_it_may(room):
    others = {*MAY_IMPORT, "commands"} - MAY_IMPORT[room] - {room}
    assert violations(room, *(f"resnet50.{other}" for other in others)) == []


@pytest.mark.parametrize(
    "room", [room for room in MAY_IMPORT if room not in ("network", "training")]
)
def test_a_light_room_does_not_name_tensorflow(room):
    assert violations(room, "tensorflow", "keras") == []


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_modules_do_not_read_the_command_line(room):
    forbidden = "argparse", "resnet50.command_line", "resnet50.terminal"
    assert violations(room, *forbidden) == []


def test_the_search_for_imports_finds_them(tmp_path, monkeypatch):
    """In every form, so that an empty result above means something."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "resnet50" / "handoff" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import numpy.linalg\n"
        "from ..training.update import step\n"
        "def late():\n"
        "    from resnet50 import preprocessing\n"
    )
    assert violations("handoff", "resnet50.training", "resnet50.preprocessing") == [
        "resnet50/handoff/module.py imports resnet50.preprocessing",
        "resnet50/handoff/module.py imports resnet50.training.update",
        "resnet50/handoff/module.py imports resnet50.training.update.step",
    ]
    assert violations("handoff", "numpy") == [
        "resnet50/handoff/module.py imports numpy.linalg"
    ]
