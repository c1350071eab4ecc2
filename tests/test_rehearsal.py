"""A short form of ``python -m tests.rehearsal``, and what its verdicts are."""

import pytest

from tests.rehearsal import report
from tests.rehearsal.__main__ import train
from tests.rehearsal.pair import PREPROCESSOR, TRAINER, Pair, Scale
from tests.rehearsal.pictures import make_pictures
from tests.rehearsal.programs import Sample
from tests.rehearsal.record import Start, Step
from tests.rehearsal.report import Opening, Restart

STEP_SECONDS = 0.1
EPOCH = 1250  # steps


def test_sixty_steps_with_a_restart_of_each_program_take_each_batch_once(tmp_path):
    images, folder = tmp_path / "train", tmp_path / "run"
    make_pictures(images, num_images=2000, num_classes=20)
    folder.mkdir()
    scale = Scale(
        num_images=2000,
        num_classes=20,
        batch_size=33,
        epochs=1,
        images_per_second=1000.0,
        buffer_size=20,
        sleep_seconds=0.2,
        plan=((0.2, PREPROCESSOR, "kill -9"), (0.5, TRAINER, "SIGTERM")),
    )
    pair = Pair(folder, images, scale)
    verdicts = train(pair)
    assert scale.num_steps == 60
    assert pair.restarts == [
        Restart(PREPROCESSOR, "kill -9"),
        Restart(TRAINER, "SIGTERM"),
    ]
    assert [len(program.started) for program in pair.programs.values()] == [2, 2]
    # The other verdicts are about times, and need more steps.
    assert verdicts[-1].what.startswith("each batch was trained on once")
    assert verdicts[-1].is_met


def make_start(num_steps, *, late=(), step_seconds=STEP_SECONDS, first=0):
    """A start whose device waits a second for the batches of some steps."""
    steps, now = [], 1000.0
    for step in range(first, first + num_steps):
        lost = 1.0 if step in late else 0.0
        now += lost
        steps.append(Step(step, now, waited=lost, idle=lost))
        now += step_seconds
    return Start(loading_seconds=4.0, steps=steps)


@pytest.mark.parametrize(
    ("late", "is_met"), [((), True), ((500,), True), ((700,), False)]
)
def test_no_step_is_waited_for_after_the_first_minute(late, is_met):
    found = report.waits([make_start(1000, late=late)])[0]
    assert found.is_met == is_met
    assert found.found.startswith("0 of" if is_met else "1 of")


def test_a_wait_while_the_device_works_is_none():
    start = make_start(1000)
    start.steps[700] = start.steps[700]._replace(waited=0.05)
    device, _, _, loop, _ = report.waits([start])
    assert device.is_met
    assert loop.found.startswith("1 of")


@pytest.mark.parametrize(("last", "is_met"), [(STEP_SECONDS, True), (0.102, False)])
def test_the_last_steps_are_as_fast_as_the_first(last, is_met):
    starts = [make_start(2000), make_start(1500, step_seconds=last, first=2000)]
    [speed] = report.speed(starts, STEP_SECONDS)
    assert speed.is_met == is_met


def test_a_checkpoint_does_not_make_the_last_steps_slow():
    starts = [make_start(2000), make_start(1500, first=2000)]
    late = starts[1].steps
    for index in range(700, 1500):
        late[index] = late[index]._replace(started=late[index].started + 3)
    assert not report.speed(starts, STEP_SECONDS)[0].is_met
    late[700] = late[700]._replace(idle=3.0)
    assert report.speed(starts, STEP_SECONDS)[0].is_met


def make_samples(bytes_per_step=0, files=10, last_files=10, bytes_per_epoch=0):
    """Samples of a start of 5,000 steps, after one of 100."""
    return [
        Sample(
            program=TRAINER,
            start=int(step >= 100),
            at=0.1 * step,
            step=step,
            num_ready=1000,
            resident=10**9,
            # At first a program needs ever more.
            unshared=5 * 10**8
            + 10**5 * min(step, 1000)
            + bytes_per_step * step
            + bytes_per_epoch * ((step + 1000) // EPOCH),
            num_files=(last_files if step > 2000 else files) + step % 3,
            num_threads=20,
            num_processes=1,
        )
        for step in range(0, 5000, 10)
    ]


@pytest.mark.parametrize(("bytes_per_step", "is_met"), [(400, True), (600, False)])
def test_memory_is_flat_after_the_warm_up(bytes_per_step, is_met):
    samples = make_samples(bytes_per_step, bytes_per_epoch=10**7)
    memory, files = report.growth(samples, TRAINER, EPOCH)
    assert (memory.is_met, files.is_met) == (is_met, True)


def test_open_files_are_flat():
    memory, files = report.growth(make_samples(last_files=11), TRAINER, EPOCH)
    assert (memory.is_met, files.is_met) == (True, False)


def test_only_the_first_start_of_the_preprocessor_may_be_slow():
    slow, fast = Opening(listing=30.0, batch=31.0), Opening(listing=0.5, batch=2.0)
    assert report.opening("files", [slow, fast, fast]).is_met
    assert not report.opening("files", [slow, fast, slow]).is_met


def test_a_verdict_that_is_not_met_fails(capsys):
    verdicts = [report.Verdict("a", "1", True), report.Verdict("b", "2")]
    assert report.is_accepted(verdicts)
    assert not report.is_accepted([*verdicts, report.Verdict("c", "3", False)])
    assert "| c | 3 | NOT MET |" in capsys.readouterr().out
