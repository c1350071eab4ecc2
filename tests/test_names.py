"""Proves that a name means one thing in the whole package."""

import ast
from collections import defaultdict

from tests.processes import ROOT

# Every program has these.
EXCEPTIONS = {"main", "parse_arguments", "build_parser"}
# Two modules with the same functions: one compiled, one not.
BACKENDS = ["resnet50/pixels/kernels.py", "resnet50/pixels/pillow_numpy.py"]


def modules():
    """The paths of all modules but __init__ and __main__."""
    for path in sorted((ROOT / "resnet50").rglob("*.py")):
        if not path.name.startswith("__"):
            yield path


def repeated(pairs):
    """The names that occur more than once, with where they occur."""
    found = defaultdict(list)
    for name, path in pairs:
        found[name].append(str(path.relative_to(ROOT)))
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def public_names():
    """The public functions and classes of each module."""
    for path in modules():
        for node in ast.parse(path.read_bytes()).body:
            name = getattr(node, "name", "_")
            if not name.startswith("_") and name not in EXCEPTIONS:
                yield name, path


def test_no_two_functions_or_classes_share_a_name():
    names = list(public_names())
    assert {"say", "Observer", "Finding"} <= {name for name, _ in names}
    shared = {name for name, paths in repeated(names).items() if paths != BACKENDS}
    assert shared == set()


def test_no_two_modules_share_a_name():
    names = [(path.stem, path) for path in modules()]
    assert len(names) > 100
    assert repeated(names) == {}


def test_a_repeated_name_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    for room in "one", "two":
        folder = tmp_path / "resnet50" / room
        folder.mkdir(parents=True)
        (folder / "same.py").write_text("def act(): pass\ndef _own(): pass\n")
    paths = ["resnet50/one/same.py", "resnet50/two/same.py"]
    assert repeated(public_names()) == {"act": paths}
    assert repeated((path.stem, path) for path in modules()) == {"same": paths}
