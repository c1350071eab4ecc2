"""A short form of ``python -m tests.chaos``, with few disturbances instead of 100."""

from tests import chaos


def test_weights_after_disturbances_are_those_of_the_undisturbed_run(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(chaos, "_PAUSE_SECONDS", (0.2, 5.0))
    wanted = {"kill": 1, "hangup": 1, "stop": 1}
    if chaos.find_faketime():
        wanted["clock jump"] = 1
    total = chaos.run(tmp_path, wanted, seed=3, epochs=4, longest_stop=2)
    assert {kind: total[f"{kind}s"] for kind in wanted} == wanted
    assert total["variables"] >= 434  # All variables, compared after each run.
