"""Proves that every graph is traced without AutoGraph."""

import ast

from tests.processes import ROOT


def test_no_other_module_calls_tf_function():
    callers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "resnet50").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "tf.function"
    }
    assert callers == {"resnet50/network/tracing.py"}
