"""A short form of ``python -m tests.chaos``, with 2 kills instead of 100."""

from tests import chaos


def test_weights_after_some_kills_are_those_of_the_undisturbed_run(tmp_path):
    total = chaos.run(tmp_path, num_kills=2, seed=3, epochs=4)
    assert total["kills"] == 2
    assert total["variables"] >= 434  # All variables, compared after each run.
