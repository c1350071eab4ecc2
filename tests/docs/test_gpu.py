"""Proves that docs/gpu.md's figures follow from their sources and from the code."""

import dataclasses
import math

import pytest

from resnet50.training.devices.choices import choose
from resnet50.training.devices.memory import MemoryNeed
from resnet50.training.devices.selection import Device
from tests.docs.documents import read
from tests.docs.test_arithmetic import CARDS, ONE_WORKER
from tests.settings import SETTINGS

PAGE = read("gpu.md")
ROWS = [
    [cell.strip() for cell in line.strip("| ").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ")
]
PROSE = " ".join(PAGE.split())

# Published images/s, by card and, where there are two, batch size.
PUBLISHED = {"RTX 3090": (1027, 1182), "RTX 4090": (1688, 1776)}
V100, A100 = CARDS["V100, mixed precision"], CARDS["A100, mixed precision"]
# GB and GB/s of the manufacturer's data sheets.
DATA_SHEETS = {
    "RTX 2080": (8, 448),
    "RTX 3090": (24, 936),
    "RTX 4090": (24, 1008),
    "V100": (16, 900),
    "A100, 40 GB": (40, 1555),
    "H100, PCIe": (80, 2000),
    "H100, SXM": (80, 3350),
}
FACTOR = 1.41
NUM_PARAMETERS = 25_557_032


def test_the_page_is_short():
    assert len(PAGE.splitlines()) <= 170


def test_published_figures_are_those_of_the_other_pages():
    def row(*cells):
        return [cell for cell in ROWS if cell[: len(cells)] == list(cells)]

    assert row("RTX 2080", "float32", f"{CARDS['RTX 2080, float32']}")
    assert row("V100", "mixed precision, batch 256", f"{V100:,}")
    assert row("A100, 40 GB", "mixed precision, batch 256", f"{A100:,}")
    for card, (small, large) in PUBLISHED.items():
        assert row(card, "float16, batch 64; 256", f"{small:,}; {large:,}")
    assert f"estimates {CARDS['H100, mixed precision']:,} images/s" in PROSE


def test_expected_speed_and_workers():
    for card, (gigabytes, bandwidth) in DATA_SHEETS.items():
        rate = FACTOR * bandwidth
        step = 10 ** (math.floor(math.log10(rate)) - 1)
        workers = math.ceil(rate / ONE_WORKER)
        assert [
            card,
            f"{gigabytes}",
            f"{bandwidth:,}",
            f"{round(rate / step) * step:,}",
            f"{workers}",
        ] in ROWS
    assert round(V100 / DATA_SHEETS["V100"][1], 2) == FACTOR
    assert f"is {FACTOR} x the card's memory bandwidth" in PROSE
    assert f"{V100:,} / {DATA_SHEETS['V100'][1]}" in PROSE


def test_how_far_the_rule_is_from_what_is_published():
    large = {card: speeds[1] for card, speeds in PUBLISHED.items()}
    ratios = {
        card: f"{speed / (FACTOR * DATA_SHEETS[card][1]):.2f}"
        for card, speed in {**large, "A100, 40 GB": A100}.items()
    }
    assert f"{ratios['RTX 3090']} (RTX 3090)" in PROSE
    assert f"{ratios['RTX 4090']} (RTX 4090," in PROSE
    assert f"{ratios['A100, 40 GB']} (A100)" in PROSE
    least, most = sorted(
        round(100 * (1 - small / large)) for small, large in PUBLISHED.values()
    )
    assert f"Batches of 64 cost {least} to {most} % of the speed" in PROSE


@pytest.mark.parametrize("capability", [(6, 1), (7, 0), (7, 5), (8, 0), (8, 9), (9, 0)])
def test_what_auto_chooses(capability):
    train = dataclasses.replace(SETTINGS.train, precision="auto", xla="auto")
    device = Device("a card", capability, num_gpus=1)
    chosen = choose(train, device, 1, {}, lambda line: None)
    (row,) = [row for row in ROWS if row[0] == ".".join(map(str, capability))]
    assert row[2] == chosen.precision
    assert chosen.xla and not choose(train, device, 2, {}, lambda line: None).xla


def need(precision, *, xla):
    train = dataclasses.replace(SETTINGS.train, precision=precision, xla=xla)
    return MemoryNeed(train, 224, NUM_PARAMETERS)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_memory(half):
    needs = [need(kind, xla=xla) for kind in ("float32", half) for xla in (False, True)]
    for batch_size in (32, 64, 128, 256, 512):
        sizes = [f"{one.estimate_bytes(batch_size) / 1e9:.1f}" for one in needs]
        assert [f"{batch_size}", *sizes] in ROWS


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_largest_batches(half):
    (free,) = [row[1:] for row in ROWS if row[0] == "GB free"]
    for name, precision in (("float32", "float32"), ("half", half)):
        one = need(precision, xla=True)
        largest = [one.largest_batch(1e9 * float(size)) // 8 * 8 for size in free]
        assert [name, *(f"{size:,}" for size in largest)] in ROWS
