"""Proves in short what ``python -m tests.chaos`` proves at length, with 100 kills."""

from tests import chaos


def test_weights_after_some_kills_are_those_of_peace(tmp_path):
    total = chaos.run(tmp_path, num_kills=3, seed=3, epochs=6)
    assert total["kills"] == 3
    assert total["variables"] >= 434  # All there are, compared after each training.
