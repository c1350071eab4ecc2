"""Proves that each mutation fits the source, has its tests, and is judged by them."""

import ast
import functools

import pytest

from tests.mutations import MUTATIONS, Mutation, MutationError, judge, mutate, run
from tests.settings import PROJECT


@functools.cache
def functions_of(name):
    tree = ast.parse((PROJECT / "tests" / name).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_fits_the_source(mutation):
    text = (PROJECT / mutation.file).read_text()
    assert text.count(mutation.old) == 1
    ast.parse(mutate(text, mutation))
    for test in mutation.tests:
        name, _, function = test.partition("::")
        assert not function or function in functions_of(name)


def test_names_are_different():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize(("old", "place"), [("no such text", "not in"), ("e", "times")])
def test_a_text_that_is_not_there_once_is_told(old, place):
    with pytest.raises(MutationError, match=f"^mutation x: its text is .*{place}"):
        mutate("three", Mutation("x", "a.py", old, "", ()))


ANY = Mutation("any", "a.py", "", "", ())


def test_the_first_failure_is_named():
    output = (
        "...\nFAILED tests/a/test_b.py::test_c[d e] - assert 1 == 2\n1 failed in 1s"
    )
    assert judge(ANY, 1, output) == "a/test_b.py::test_c[d e]"
    assert judge(ANY, 0, "3 passed in 1s") is None


@pytest.mark.parametrize(
    ("status", "output", "expected"),
    [
        (0, "2 passed, 1 skipped in 1s", "mutation any: its tests are skipped"),
        (
            2,
            "ERROR tests/a.py",
            "mutation any: its tests do not run:\nERROR tests/a.py",
        ),
        (-11, "", "mutation any: its tests do not run:\n"),
    ],
)
def test_what_is_neither_a_failure_nor_a_pass_is_told(status, output, expected):
    with pytest.raises(MutationError) as caught:
        judge(ANY, status, output)
    assert str(caught.value) == expected


def test_a_caught_one_a_survivor_and_a_lost_one(tmp_path, capsys):
    """With tests that are done in a moment."""
    tests = ("training/update/test_schedules.py::test_constant_stays",)
    schedules = "resnet50/training/update/schedules.py"
    caught = "return base_learning_rate\n", "return 2 * base_learning_rate\n"
    mutations = (
        Mutation("a", schedules, *caught, tests),
        Mutation("b", schedules, "math.cos(", "math.sin(", tests),
        Mutation("c", schedules, "no such text", "", tests),
    )
    before = (PROJECT / schedules).read_bytes()
    assert run(mutations, tmp_path) == 2
    assert (PROJECT / schedules).read_bytes() == before
    assert capsys.readouterr().out.splitlines() == [
        "a: caught by training/update/test_schedules.py::test_constant_stays",
        "b: SURVIVED",
        f"c: mutation c: its text is not in {schedules}",
        "1 of 3 mutations caught",
    ]
