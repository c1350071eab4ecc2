"""Proves that docs/scaling.md's tables and figures follow from its assumptions.

The simulation behind some of them is tested against the protocol's rules.
"""

import dataclasses
import math
import re

import pytest

from benchmarks.simulation import Settings, Simulation, smallest_buffer
from tests.settings import PROJECT

DOCUMENT = (PROJECT / "docs" / "scaling.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("| ").split("|")]
    for line in DOCUMENT.splitlines()
    if line.startswith("| ")
]
CARDS = {"RTX 2080": 213, "V100": 1270, "A100": 2375, "H100": 4385}
BATCH = 64
WORKER_SPEED = 430  # images/s
FLOAT16, UINT8 = 224 * 224 * 3 * 2, 224 * 224 * 3
JPEG = 117_000
SPARE = 1.25
SLEEP, BELOW = 10, 0.8
EPOCH = 1_281_167


def workers_for(speed: float) -> int:
    return math.ceil(SPARE * speed / WORKER_SPEED)


def buffer_for(speed: float, pause_seconds: float) -> float:
    """Number of images, for a pause at the refill's worst moment."""
    return speed * (pause_seconds + SLEEP) / BELOW


def size_of(num_bytes: float) -> str:
    if num_bytes >= 1e12:
        return f"{num_bytes / 1e12:.1f} TB"
    return f"{num_bytes / 1e9:,.0f} GB"


def rows_of(card: str, num_cells: int) -> list[list[str]]:
    return [row for row in ROWS if row[0] == card and len(row) == num_cells]


@pytest.mark.parametrize("card", CARDS)
def test_cores_disk_and_buffer(card):
    rows = rows_of(card, 11)
    assert [row[1] for row in rows] == ["1", "8", "64"]
    for row in rows:
        speed = CARDS[card] * int(row[1])
        in_buffer = buffer_for(speed, 300)
        assert row[2:] == [
            f"{speed:,}",
            f"{workers_for(speed):,}",
            f"{speed * JPEG / 1e9:.2f}",
            f"{speed * FLOAT16 / 1e9:.2f}",
            f"{speed * UINT8 / 1e9:.2f}",
            f"{math.ceil(speed * SLEEP / BATCH):,}",
            f"{math.ceil(in_buffer / BATCH):,}",
            size_of(in_buffer * FLOAT16),
            size_of(in_buffer * UINT8),
        ]


def test_assumptions():
    text = " ".join(DOCUMENT.split())
    for card, speed in CARDS.items():
        assert re.search(rf"\| {card}[^|]*\| {speed:,} images/s ", text)
    assert f"{FLOAT16:,} bytes in float16" in text
    assert 2 * UINT8 == FLOAT16
    assert round(150e9 / EPOCH, -3) == JPEG
    assert round(BATCH / (0.128 + 0.0073), -1) == pytest.approx(472, abs=3)
    assert f"1.25 x images/s / {WORKER_SPEED}" in text


def test_figures_in_the_text():
    text = " ".join(DOCUMENT.split())
    written = 90 * EPOCH * FLOAT16 / 1e12
    assert f"= {written:.1f} TB into the buffer, {written / 2:.1f} TB in uint8" in text
    assert f"for 600 TB of writes lasts for {600 // written:.0f} of them" in text
    seconds = {card: 1000 * BATCH / speed for card, speed in CARDS.items()}
    assert f"{seconds['H100']:.0f} s instead of {seconds['RTX 2080']:.0f} s" in text
    reader = BATCH / 0.0069
    assert f"brings {round(reader, -2):,.0f} images/s in float16" in text
    numbers = {2: "two", 3: "three", 7: "seven"}
    assert (
        f"{numbers[reader // 1270]} V100s, {numbers[reader // 2375]} A100s or "
        f"{numbers[reader // 4385]} H100s" in text
    )
    assert f"10 Gbit/s carries {10e9 / 8 / FLOAT16:,.0f} images/s in float16" in text
    assert f"{1000 * BATCH:,} images/s in batches of {BATCH}" in text
    assert f"{7000 / CARDS['A100']:.1f} times what it trains" in text
    for card, gpus, what in (
        ("H100", 1, "needs 13 workers and 1.32 GB/s"),
        ("V100", 8, "take 30 workers"),
        ("A100", 8, "take 56 cores and 5.72 GB/s"),
        ("H100", 8, "take 102 cores"),
        ("A100", 64, "need 45.76 GB/s"),
    ):
        assert what in text
        row = next(row for row in rows_of(card, 11) if row[1] == str(gpus))
        for number in re.findall(r"[\d.]+", what):
            assert number in row


def bench(**changes) -> Settings:
    """The setting of benchmarks.handoff, with one worker of 430 images/s."""
    make = BATCH / WORKER_SPEED
    settings = Settings(1, make, 2 * make, buffer_size=60, refill_sleep_seconds=0.2)
    return dataclasses.replace(settings, keeps_pace=True, **changes)


def test_simulated_points_that_are_measured():
    rows = {row[0]: row[1] for row in ROWS if len(row) == 3}
    half = Simulation(bench()).run(600)
    (told,) = (v for k, v in rows.items() if k.startswith("trainer at half"))
    assert told == f"{half.waited_seconds / 600:.1%}".replace("%", " %")
    make = BATCH / WORKER_SPEED
    twice = Simulation(bench(step_seconds=make / 2)).run(600)
    (told,) = (v for k, v in rows.items() if k.startswith("trainer at twice"))
    assert told == f"{twice.num_trained * make / 600:.2f}"
    for size, interval in ((8, 0.5), (8, 0.7), (16, 0.5)):
        (told,) = (
            value
            for key, value in rows.items()
            if key.startswith(f"buffer of {size},") and f"every {interval} s" in key
        )
        settings = Settings(
            2,
            BATCH / 183,
            interval,
            buffer_size=size,
            refill_sleep_seconds=5,
            starts_full=True,
            keeps_pace=True,
        )
        outcome = Simulation(settings).run(600)
        waited = outcome.waited_seconds / 600
        assert told == f"{outcome.num_trained / 600:.2f}, {waited:.0%}".replace(
            "%", " %"
        )


def pause_settings(speed: float, minutes: int, start: float) -> Settings:
    num_workers = workers_for(speed)
    return Settings(
        num_workers,
        num_workers * BATCH / (SPARE * speed),
        BATCH / speed,
        buffer_size=1,
        pause_start=start,
        pause_seconds=60 * minutes,
        starts_full=True,
    )


@pytest.mark.parametrize(
    ("card", "minutes"),
    [("RTX 2080", 1), ("RTX 2080", 5), ("RTX 2080", 30), ("V100", 1)],
)
def test_buffer_for_a_pause(card, minutes):
    (row,) = (row for row in rows_of(card, 5) if row[1] == str(minutes))
    speed = CARDS[card]
    steps, simulated, formula = (int(cell.replace(",", "")) for cell in row[2:])
    assert steps == math.ceil(speed * 60 * minutes / BATCH)
    assert formula == math.ceil(buffer_for(speed, 60 * minutes) / BATCH)
    worst = max(
        smallest_buffer(
            pause_settings(speed, minutes, start), start + 60 * minutes + 60, 0.5
        )
        for start in (100, 104, 108, 112, 116)
    )
    assert worst == simulated
    assert steps <= simulated <= formula


def test_with_the_formulas_buffer_no_card_waits():
    """For any start of the pause; a buffer for the pause alone is too small."""
    for speed in CARDS.values():
        for start in (20, 27, 33):
            settings = pause_settings(speed, 1, start)
            enough = math.ceil(buffer_for(speed, 60) / BATCH)
            too_few = math.floor(speed * 60 / BATCH)
            for size, waits in ((enough, False), (too_few, True)):
                changed = dataclasses.replace(settings, buffer_size=size)
                outcome = Simulation(changed).run(start + 70)
                assert (outcome.waited_seconds > 0.1) == waits


class TestSimulation:
    def test_same_seed_same_run_and_another_seed_another(self):
        first, again, other = (
            Simulation(bench(seed=seed, step_seconds=0.1)).run(100)
            for seed in (1, 1, 2)
        )
        assert first == again
        assert first != other

    def test_by_hand_without_spread(self):
        """One worker makes a batch per second; the reader polls every 0.1 s."""
        settings = Settings(
            1,
            1.0,
            0.5,
            buffer_size=10,
            spread=0.0,
            list_seconds=0.0,
            read_seconds=0.0,
        )
        outcome = Simulation(settings).run(10.95)
        assert (outcome.num_made, outcome.num_trained) == (10, 10)

    def test_workers_share_the_work(self):
        one, four = (
            Simulation(Settings(n, 1.0, 0.01, buffer_size=100, spread=0.0))
            .run(100)
            .num_made
            for n in (1, 4)
        )
        assert four == pytest.approx(4 * one, abs=8)

    def test_refill_waits_until_less_than_80_percent_is_left(self):
        """With one step per second it sleeps at 8 of 10 batches, and refills at 7."""
        settings = Settings(
            1,
            0.1,
            1.0,
            buffer_size=10,
            spread=0.0,
            refill_sleep_seconds=0.5,
            starts_full=True,
        )
        assert Simulation(settings).run(2.9).num_made == 0
        assert Simulation(settings).run(4.9).num_made > 0
