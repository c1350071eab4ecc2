"""Proves that docs/scaling.md's tables and figures follow from its assumptions.

Those of docs/measurements.md that are simulated are compared, too. The simulations are
tested against the protocol's rules and against formulas.
"""

import dataclasses
import functools
import math
import re

import pytest

from benchmarks import many_hosts, stand_in_hosts
from benchmarks.simulation import Settings, Simulation
from tests.settings import PROJECT

DOCUMENT = (PROJECT / "docs" / "scaling.md").read_text(encoding="utf-8")
MEASUREMENTS = (PROJECT / "docs" / "measurements.md").read_text(encoding="utf-8")


def rows_in(text: str) -> list[list[str]]:
    """The cells of all tables."""
    return [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]


ROWS = rows_in(DOCUMENT)
SIMULATED = rows_in(MEASUREMENTS.partition("### The simulation of the protocol")[2])
CARDS = {"RTX 2080": 213, "V100": 1270, "A100": 2375, "H100": 5847}
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
    (row,) = (row for row in rows_of(card, 10) if row[-1][-1] == "B")
    speed = CARDS[card]
    in_buffer = buffer_for(speed, 300)
    assert row[1:] == [
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
    assert f"10 Gbit/s carries {10e9 / 8 / FLOAT16:,.0f} images/s in float16" in text
    assert f"{1000 * BATCH:,} images/s in batches of {BATCH}" in text
    assert f"{7000 / CARDS['A100']:.1f} times what it trains" in text
    workers, written = workers_for(CARDS["H100"]), CARDS["H100"] * FLOAT16 / 1e9
    assert f"an H100 needs {workers} workers and {written:.2f} GB/s" in text
    assert f"they would need {workers_for(8 * CARDS['H100'])} workers" in text


def bench(**changes) -> Settings:
    """The setting of benchmarks.handoff, with one worker of 430 images/s."""
    make = BATCH / WORKER_SPEED
    settings = Settings(1, make, 2 * make, buffer_size=60, refill_sleep_seconds=0.2)
    return dataclasses.replace(settings, keeps_pace=True, **changes)


def test_simulated_points_that_are_measured():
    rows = {row[0]: row[1] for row in SIMULATED if len(row) == 3}
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


def test_simulated_hosts_that_are_measured():
    rows = [row for row in SIMULATED if re.match("(two|four) hosts, ", row[0])]
    for row, trial in zip(rows, stand_in_hosts.TRIALS, strict=True):
        assert row[0].startswith({2: "two", 4: "four"}[len(trial.make_seconds)])
        assert f"every {trial.step_seconds} s" in row[0]
        for make_seconds in trial.make_seconds:
            assert str(make_seconds) in row[0]
        steps, waiting = stand_in_hosts.simulated(trial, 200)
        told_steps, told_waiting = row[1].removesuffix(" %").split(", ")
        assert float(told_steps) == pytest.approx(steps, abs=0.1)
        assert float(told_waiting) == pytest.approx(100 * waiting, abs=2)


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


@functools.cache
def speed_with_nccl(card: str, num_hosts: int) -> many_hosts.Speed:
    return many_hosts.simulate(card, num_hosts, many_hosts.sum_seconds(num_hosts))


def percent(share: float, digits: int = 0) -> str:
    return f"{share:.{digits}%}".replace("%", " %")


@pytest.mark.parametrize("card", many_hosts.BANDWIDTHS)
def test_speed_of_many_hosts(card):
    rows = [row for row in rows_of(card, 10) if row[-1][-1:] != "B"]
    for num_hosts, row in zip(many_hosts.HOSTS, rows, strict=True):
        images = many_hosts.per_gpu(num_hosts)
        assert images == min(256, 32_768 // (8 * num_hosts))
        speed, ring = speed_with_nccl(card, num_hosts), "-"
        assert speed.share_waiting == 0
        if num_hosts > 1:
            sums = many_hosts.ring_seconds(num_hosts)
            ring = percent(many_hosts.simulate(card, num_hosts, sums).share_in_steps)
        assert row[1:] == [
            str(num_hosts),
            f"{8 * num_hosts:,}",
            str(images),
            f"{1e3 * many_hosts.step_seconds(card, images):.0f}",
            f"{1e3 * many_hosts.sum_seconds(num_hosts):.0f}",
            percent(speed.share_in_steps),
            f"{speed.images_per_second:,.0f}",
            f"{90 * EPOCH / speed.images_per_second / 60:.1f}",
            ring,
        ]


@pytest.mark.parametrize("card", many_hosts.BANDWIDTHS)
def test_needs_of_each_host(card):
    for num_hosts, row in zip((1, 8, 128), rows_of(card, 9), strict=True):
        speed = speed_with_nccl(card, num_hosts).images_per_second / num_hosts
        batch = 8 * many_hosts.per_gpu(num_hosts)
        workers = workers_for(speed)
        memory = workers * 127e6 + (workers + 4) * batch * UINT8
        smallest = speed * (SLEEP + 1.5 * batch / WORKER_SPEED) / BELOW
        gradients = 4 * 25_557_032 * 2 * (num_hosts - 1) / num_hosts * speed / batch
        assert row[1:] == [
            str(num_hosts),
            str(workers),
            f"{memory / 1e9:.0f}",
            f"{smallest * UINT8 / 1e9:.0f}",
            f"{(smallest + speed * 300 / BELOW) * UINT8 / 1e9:.0f}",
            f"{speed * UINT8 / 1e9:.1f}",
            f"{speed * JPEG / 1e9:.1f}",
            f"{gradients / 1e9:.1f}",
        ]


def test_time_lost_through_failures():
    rows = [row for row in ROWS if len(row) == 7 and row[0].isdigit()]
    for num_hosts, row in zip(many_hosts.HOSTS, rows, strict=True):
        between = 7 * 86_400 / num_hosts
        interval = math.sqrt(2 * 1.2 * between)
        formula = 1.2 / interval + (interval / 2 + 415) / between
        lost = many_hosts.simulate_lost(num_hosts, interval)
        assert row == [
            str(num_hosts),
            str(num_hosts),
            f"{interval / 60:.1f}",
            percent(formula, 1),
            percent(lost, 1),
            f"{168 * lost:.1f}",
            percent(many_hosts.simulate_lost(num_hosts, 1200), 1),
        ]
        assert many_hosts.best_interval(num_hosts) == interval
        assert many_hosts.lost_by_formula(num_hosts, interval) == pytest.approx(formula)
        # The exact expectation; the formula is its first order.
        kept = interval / (math.exp((interval + 1.2) / between) - 1)
        assert lost == pytest.approx(1 - kept / (between + 415), rel=0.03)
        for factor in 0.4, 2.5:
            assert many_hosts.simulate_lost(num_hosts, factor * interval) > lost


def test_steps_of_a_card_and_sums():
    for images in 64, 256:
        seconds = many_hosts.step_seconds("H100", images)
        assert images / seconds == pytest.approx(many_hosts.MEASURED[images])
    predicted = 128 / many_hosts.step_seconds("H100", 128)
    assert f"it gives {predicted:,.0f} instead of 1,902" in DOCUMENT
    for card in many_hosts.BANDWIDTHS:
        fixed = 1e3 * many_hosts.step_seconds(card, 0)
        image = 1e3 * many_hosts.step_seconds(card, 1) - fixed
        assert f"| {fixed:.1f} ms + n x {image:.2f} ms |" in DOCUMENT
    gradients = 4 * 25_557_032
    short = 5 * (0.1e-3 + 2 * 0.02e-3)
    expected = gradients / 12.5e9 + gradients * 1.75 / 200e9 + short
    assert many_hosts.sum_seconds(2) == pytest.approx(expected)
    expected = 5 * 30 * 0.54e-3 + gradients / 0.22e9
    assert many_hosts.ring_seconds(2) == pytest.approx(expected)


def test_figures_of_many_hosts_in_the_text():
    text = " ".join(DOCUMENT.split())
    h100 = {n: speed_with_nccl("H100", n) for n in many_hosts.HOSTS}
    two, eight, many, most = (percent(h100[n].share_in_steps) for n in (2, 8, 32, 128))
    assert f"{two.split()[0]} and {eight} of the time in steps" in text
    assert f"At {many}. The largest" in text
    minutes = 90 * EPOCH / h100[128].images_per_second / 60
    assert f"No: at {most}. 90 epochs take {minutes:.1f} minutes" in text
    two, eight = (
        percent(many_hosts.simulate("H100", n, many_hosts.ring_seconds(n))[1])
        for n in (2, 8)
    )
    assert f"Without NCCL, {two.split()[0]} and {eight}." in text
    one = h100[1].images_per_second
    assert f"| Yes: {workers_for(one)} workers" in text
    for gigabits, share in (25, "67 % instead of 87 %"), (400, "at 93 %"):
        sums = many_hosts.sum_seconds(8, gigabits * 1e9 / 8)
        found = many_hosts.simulate("H100", 8, sums).share_in_steps
        assert share.removeprefix("at ").startswith(percent(found))
        assert share in text
    files = {n: h100[n].images_per_second * JPEG / 1e9 for n in (8, 128)}
    assert f"8 hosts of H100s read {files[8]:.0f} GB/s" in text
    assert f"128 hosts {files[128]:.0f} GB/s" in text
    shared = speed_with_nccl("A100", 8).images_per_second * FLOAT16 / 1e9
    assert f"would read {shared:.1f} GB/s in float16" in text
    ratio = 16_400 / speed_with_nccl("A100", 1).images_per_second
    assert f"(DeepLearningExamples), {ratio:.1f} times the first row" in text
    latency = 0.1e-3 + 2 * 7 * 0.02e-3
    assert f"{many_hosts.copy_seconds(latency):.1f} s to 128 hosts with NCCL" in text
    ring = many_hosts.copy_seconds(2 * 1023 * many_hosts.RING_HOP_SECONDS)
    assert f"{ring / 60:.0f} minutes with the ring" in text
    assert f"one of each in {2048 * 54 / 7 / 419:.0f} weeks" in text
    assert f"{2048 / WORKER_SPEED:.1f} s for 2,048 images" in text


def exact(**changes) -> Settings:
    """One worker makes a batch in 1 s, a step takes 0.5 s; nothing varies."""
    settings = Settings(1, 1.0, 0.5, buffer_size=10, spread=0.0)
    return dataclasses.replace(settings, list_seconds=0.0, read_seconds=0.0, **changes)


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
        outcome = Simulation(exact()).run(10.95)
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

    def test_all_hosts_go_as_fast_as_the_slowest(self):
        """Its workers make a batch in 2 s, the others in 1 s; sums take 0.25 s."""
        settings = exact(num_hosts=3, make_factors=(1.0, 2.0, 1.0), sum_seconds=0.25)
        outcome = Simulation(settings).run(101)
        assert outcome.num_trained == 50
        # 2 s between two batches, less the step and the sums.
        assert outcome.waited_seconds == pytest.approx(49 * 1.25, abs=1.5)
        # The others are 10 batches ahead, less those below which they refill.
        assert 50 + 2 * 57 <= outcome.num_made <= 50 + 2 * 60

    def test_the_sums_wait_for_the_slowest_step(self):
        """The largest of eight normal numbers lies 1.42 deviations above the mean."""
        settings = Settings(
            1, 0.1, 1.0, buffer_size=20, starts_full=True, num_hosts=8, step_spread=0.1
        )
        trained = Simulation(settings).run(500).num_trained
        assert 500 / trained == pytest.approx(1.142, abs=0.02)
