"""Prints the accuracies of two programs over several seeds, and their difference."""

import statistics
from collections.abc import Iterable

from scipy import stats


def compare(theirs: str, pairs: Iterable[tuple[float, float]]) -> None:
    """Prints each seed's pair, ours and theirs, as soon as it comes, then the means."""
    print(f"\n{'held-out top-1':16} {'ours':>8} {theirs:>8}", flush=True)
    results = []
    for seed, pair in enumerate(pairs):
        results.append(pair)
        print(f"seed {seed:<11} {pair[0]:8.2%} {pair[1]:8.2%}", flush=True)
    columns = list(zip(*results))
    for name, function in (
        ("mean", statistics.mean),
        ("std. deviation", statistics.stdev),
    ):
        a, b = map(function, columns)
        print(f"{name:16} {a:8.2%} {b:8.2%}")
    interval = stats.ttest_ind(*columns, equal_var=False).confidence_interval(0.95)
    difference = statistics.mean(columns[0]) - statistics.mean(columns[1])
    print(
        f"{'ours - ' + theirs:16} {difference:+8.2%}, 95 % interval by Welch's t-test "
        f"{interval.low:+.2%} to {interval.high:+.2%}: "
        + ("within" if interval.low <= 0 <= interval.high else "outside")
        + " the noise",
        flush=True,
    )
