"""Proves what the refill decides, whom it believes, and that every batch gets made.

Planning and believing are tested without workers. Whole runs use real workers on flat
images; a trainer inside the preprocessor's own look consumes what is ready, so that no
test waits for luck. Files are compared bitwise across numbers of workers, restarts and
killed workers.
"""

import collections
import contextlib
import functools
import os
import shutil

import pytest

from resnet50.dataset.class_folders import list_class_folders
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.lost_folder import PreprocessorsPlace
from resnet50.handoff.manifest import adopt_buffer, read_manifest
from resnet50.handoff.progress import FILE_NAME, Position, to_position, write_progress
from resnet50.preprocessing import refill
from resnet50.preprocessing import trainer_watch as follower_module
from resnet50.preprocessing.batches import Assignments
from resnet50.preprocessing.process_pool import worker_pool
from resnet50.preprocessing.refill import (
    DiskSpaceError,
    Plan,
    Refill,
    WorkersDyingError,
    fitting_buffer_size,
    plan_refill,
)
from resnet50.preprocessing.trainer_watch import ProgressFollower
from resnet50.preprocessing.unreadable import UnreadableLog
from tests.images import make_class_folders
from tests.preprocessing.recipes import make_recipe
from tests.preprocessing.workloads import (
    die_once_half_way,
    exit_at_once,
    fail_while_disk_is_full,
    write_on_a_disk_for_three,
)

# 25 images in batches of 4; two epochs.
BATCHES_PER_EPOCH = 6
END_STEP = 12

# A run that has looked so often without an end never ends: a failure, not a wait.
MANY_LOOKS = 3_000


class TestPlan:
    """plan_refill: the window [10, 15) unless told otherwise."""

    WINDOW = range(10, 15)

    def test_empty_buffer_is_filled_nearest_first(self):
        assert plan_refill(self.WINDOW, [], []) == Plan([], [10, 11, 12, 13, 14], 0)

    def test_full_buffer_needs_nothing(self):
        assert plan_refill(self.WINDOW, {*self.WINDOW}, {*self.WINDOW}) == Plan(
            [], [], 5
        )

    def test_what_is_outside_the_window_is_deleted(self):
        present = {0, 9, 10, 14, 15, 99}
        plan = plan_refill(self.WINDOW, present, present)
        assert plan == Plan([0, 9, 15, 99], [11, 12, 13], 1)

    def test_gaps_are_made_first_and_end_what_is_ahead(self):
        ready = {10, 12, 14}
        assert plan_refill(self.WINDOW, ready, ready) == Plan([], [11, 13], 1)

    def test_half_a_batch_is_made_and_not_deleted(self):
        plan = plan_refill(self.WINDOW, {10}, {10, 11})
        assert plan == Plan([], [11, 12, 13, 14], 1)

    def test_half_a_batch_outside_is_deleted(self):
        assert plan_refill(self.WINDOW, [], {9}).delete == [9]

    def test_what_is_being_made_is_not_made_twice_nor_counted_as_ready(self):
        plan = plan_refill(self.WINDOW, {10, 12}, {10, 12}, in_progress={11, 13})
        assert plan == Plan([], [14], 1)

    def test_trainer_went_back(self):
        """Nothing of the old window is in the new one but its first two batches."""
        old = {12, 13, 14, 15, 16}
        plan = plan_refill(range(9, 14), old, old)
        assert plan == Plan([14, 15, 16], [9, 10, 11], 0)

    def test_end_of_the_training(self):
        assert plan_refill(range(14, 15), {14}, {13, 14}) == Plan([13], [], 1)
        assert plan_refill(range(15, 15), [], {14}) == Plan([14], [], 0)


class TestFollower:
    """ProgressFollower: from step 6 (epoch 1) to step 12."""

    @pytest.fixture
    def said(self):
        return []

    @pytest.fixture
    def follow(self, tmp_path, said):
        def follow(start_step=6):
            return ProgressFollower(
                BatchBuffer(tmp_path),
                batches_per_epoch=BATCHES_PER_EPOCH,
                start_step=start_step,
                end_step=END_STEP,
                notify=said.append,
            )

        return follow

    @staticmethod
    def write(folder, step):
        write_progress(folder, to_position(step, BATCHES_PER_EPOCH))

    def test_starts_at_epoch_start_without_a_file_and_says_so_once(
        self, tmp_path, follow, said
    ):
        follower = follow()
        assert [follower.trained_step() for _ in range(3)] == [6, 6, 6]
        assert said == [f"{tmp_path / FILE_NAME}: does not exist (train.py writes it)"]
        assert not follower.trainer_is_alive

    @pytest.mark.parametrize("step", [6, 9, 11])
    def test_a_dead_trainers_position_is_where_it_will_go_on(
        self, tmp_path, follow, said, step
    ):
        self.write(tmp_path, step)
        assert follow().trained_step() == step
        assert said == []

    def test_a_finished_file_of_before_is_not_believed(self, tmp_path, follow, said):
        self.write(tmp_path, END_STEP)
        follower = follow()
        assert [follower.trained_step() for _ in range(3)] == [6, 6, 6]
        assert said == [
            f"{tmp_path / FILE_NAME}: says that the training has finished; starting at "
            "epoch 1, batch 0"
        ]

    def test_a_finished_file_of_before_is_not_believed_while_a_new_trainer_starts(
        self, tmp_path, follow
    ):
        """It has its lock, and loads TensorFlow before it writes a position."""
        self.write(tmp_path, END_STEP)
        follower = follow()
        with locks.exclusive_role(tmp_path, locks.TRAINER):
            assert follower.trained_step() == 6
            assert follower.trainer_is_alive
            self.write(tmp_path, 6)
            assert follower.trained_step() == 6

    def test_a_position_before_epoch_start_is_believed_of_the_living_only(
        self, tmp_path, follow, said
    ):
        self.write(tmp_path, 3)
        follower = follow()
        assert follower.trained_step() == 6
        assert said == [
            f"{tmp_path / FILE_NAME}: says epoch 0, batch 3, before --epoch_start; "
            "starting at epoch 1, batch 0"
        ]
        with locks.exclusive_role(tmp_path, locks.TRAINER):
            self.write(tmp_path, 3)
            assert follower.trained_step() == 3

    def test_a_trainer_that_finishes_while_watched_is_believed(self, tmp_path, follow):
        self.write(tmp_path, 11)
        follower = follow()
        assert follower.trained_step() == 11
        self.write(tmp_path, END_STEP)
        # By now it may have ended.
        assert follower.trained_step() == END_STEP

    def test_follows_forwards_and_backwards(self, tmp_path, follow):
        follower = follow()
        with locks.exclusive_role(tmp_path, locks.TRAINER):
            for step in (6, 7, 11, 8, 0, 12):
                self.write(tmp_path, step)
                assert follower.trained_step() == step
                assert follower.trainer_is_alive

    def test_says_where_a_trainer_that_went_was(self, tmp_path, follow, said):
        follower = follow()
        with locks.exclusive_role(tmp_path, locks.TRAINER):
            self.write(tmp_path, 8)
            assert follower.trained_step() == 8
        assert [follower.trained_step() for _ in range(2)] == [8, 8]
        assert said == ["train.py has gone; it was at epoch 1, batch 2"]

    def test_a_trainer_whose_folder_is_deleted_has_not_gone(
        self, tmp_path, follow, said
    ):
        """Nor is it news that its file is not there."""
        folder = tmp_path / "buffer"
        folder.mkdir()
        follower = ProgressFollower(
            BatchBuffer(folder),
            batches_per_epoch=BATCHES_PER_EPOCH,
            start_step=0,
            end_step=END_STEP,
            notify=said.append,
        )
        with locks.exclusive_role(folder, locks.TRAINER) as role:
            self.write(folder, 8)
            assert follower.trained_step() == 8
            shutil.rmtree(folder)
            assert follower.trained_step() == 8
            folder.mkdir()
            assert follower.trained_step() == 8
            role.take_again(make_folder=False)
            assert follower.trained_step() == 8
            assert said == []
        follower.trained_step()
        assert "train.py has gone; it was at epoch 1, batch 2" in said

    def test_sleep_ends_when_the_trainers_file_is_deleted(
        self, tmp_path, follow, monkeypatch
    ):
        self.write(tmp_path, 8)
        naps = []

        def nap(seconds):
            naps.append(seconds)
            assert len(naps) < 10, "it sleeps on"
            if len(naps) == 2:
                (tmp_path / FILE_NAME).unlink()

        monkeypatch.setattr(follower_module.time, "sleep", nap)
        follow().sleep(3600)
        assert naps == [1.0, 1.0]

    def test_sleep_ends_when_the_trainer_comes(self, tmp_path, follow, monkeypatch):
        follower = follow()
        naps = []
        with contextlib.ExitStack() as trainer:

            def nap(seconds):
                naps.append(seconds)
                assert len(naps) < 10, "it sleeps on"
                if len(naps) == 3:
                    role = locks.exclusive_role(tmp_path, locks.TRAINER)
                    trainer.enter_context(role)

            monkeypatch.setattr(follower_module.time, "sleep", nap)
            follower.sleep(3600)
        assert naps == [1.0, 1.0, 1.0]

    @pytest.mark.parametrize(
        "garbage", [b"", b"1\n", b"1\n6\n", b"2\n1\n", b"\xff\xfe"], ids=repr
    )
    def test_garbage_is_said_once_and_the_last_position_kept(
        self, tmp_path, follow, said, garbage
    ):
        self.write(tmp_path, 8)
        follower = follow()
        assert follower.trained_step() == 8
        for _ in range(2):
            (tmp_path / FILE_NAME).write_bytes(garbage)
            assert [follower.trained_step() for _ in range(3)] == [8, 8, 8]
            self.write(tmp_path, 8)
            assert follower.trained_step() == 8
        # Once each time that it appeared.
        assert len(said) == 2
        assert all(line.startswith(f"{tmp_path / FILE_NAME}: ") for line in said)


class InterruptionError(Exception):
    """Stands for Ctrl-C in the middle of a run."""


class Trainer:
    """Consumes batches within the preprocessor's look, and keeps their bytes."""

    def __init__(self, buffer, *, stop_at=None, is_waiting=False):
        self.buffer = buffer
        self.step = 0
        self.consumed = {}
        self.statuses = []
        self.stop_at = stop_at
        self.is_waiting = is_waiting

    def __call__(self, status):
        self.statuses.append(status)
        assert len(self.statuses) < MANY_LOOKS, "the run does not come to an end"
        while not self.is_waiting and self.step < END_STEP:
            position = to_position(self.step, BATCHES_PER_EPOCH)
            if position not in self.buffer.ready():
                break
            self.consumed[position] = (
                self.buffer.images_path(position).read_bytes(),
                self.buffer.labels_path(position).read_bytes(),
            )
            self.step += 1
            write_progress(
                self.buffer.folder, to_position(self.step, BATCHES_PER_EPOCH)
            )
            if self.step == self.stop_at:
                raise InterruptionError


@pytest.fixture
def paths(tmp_path):
    return make_class_folders(tmp_path / "images", 5, 5)


@pytest.fixture
def role_in():
    """Returns a function that takes the preprocessor's role in a folder, once."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(
            lambda folder: stack.enter_context(
                locks.exclusive_role(folder, locks.PREPROCESSOR)
            )
        )


@pytest.fixture
def start(tmp_path, paths, role_in):
    """Returns a function that prepares a Refill of a new or existing buffer."""

    def start(folder_name="buffer", *, num_workers=1, buffer_size=5, report, notify):
        folder = tmp_path / folder_name
        folder.mkdir(exist_ok=True)
        buffer = BatchBuffer(folder)
        report.buffer = buffer
        dataset = list_class_folders(tmp_path / "images")
        recipe = make_recipe()
        assert dataset.batches_per_epoch(recipe.batch_size) == BATCHES_PER_EPOCH
        manifest = recipe.manifest(dataset)
        adopt_buffer(buffer, manifest, notify)
        follower = ProgressFollower(
            buffer,
            batches_per_epoch=BATCHES_PER_EPOCH,
            start_step=0,
            end_step=END_STEP,
            notify=notify,
        )
        return Refill(
            buffer,
            Assignments(dataset, recipe),
            recipe,
            follower,
            PreprocessorsPlace(role_in(folder), buffer, manifest, notify),
            batches_per_epoch=BATCHES_PER_EPOCH,
            end_step=END_STEP,
            buffer_size=buffer_size,
            refill_below=0.8,
            sleep_seconds=0.01,
            open_pool=functools.partial(worker_pool, num_workers),
            notify=notify,
            report=report,
        )

    return start


@pytest.fixture
def reference(start):
    """The bytes of every batch, made by one worker in one run."""
    trainer = Trainer(None)
    start("reference", report=trainer, notify=lambda line: None).run()
    return trainer.consumed


def test_three_workers_and_a_restart_in_the_middle_make_the_same_files(
    start, reference
):
    assert list(reference) == [to_position(s, BATCHES_PER_EPOCH) for s in range(12)]
    assert len(set(reference.values())) == 12

    trainer = Trainer(None)
    start("three", num_workers=3, report=trainer, notify=lambda line: None).run()
    assert trainer.consumed == reference

    trainer = Trainer(None, stop_at=4)
    refill = start("again", num_workers=2, report=trainer, notify=lambda line: None)
    with pytest.raises(InterruptionError):
        refill.run()
    trainer.stop_at = None
    start("again", num_workers=2, report=trainer, notify=lambda line: None).run()
    assert trainer.consumed == reference


def test_buffer_never_holds_more_than_its_size_and_ends_empty(start):
    trainer = Trainer(None)
    most = 0

    def report(status):
        nonlocal most
        trainer.buffer = report.buffer
        most = max(most, len(report.buffer.ready()))
        trainer(status)

    start(num_workers=2, buffer_size=3, report=report, notify=lambda line: None).run()
    assert 1 <= most <= 3
    assert report.buffer.present() == set()
    assert all(status.window_size <= 3 for status in trainer.statuses)
    assert trainer.statuses[-1].trained == Position(2, 0)


def test_trainer_that_goes_back_gets_the_same_batches_again(start, reference):
    trainer = Trainer(None)
    went_back = []

    def report(status):
        trainer.buffer = report.buffer
        trainer(status)
        if trainer.step >= 8 and not went_back:
            went_back.append(trainer.step)
            trainer.step = 2
            trainer.consumed.clear()
            write_progress(report.buffer.folder, Position(0, 2))

    start(num_workers=2, report=report, notify=lambda line: None).run()
    assert went_back
    assert trainer.consumed == {p: reference[p] for p in list(reference)[2:]}


@pytest.mark.parametrize("file", ["images", "labels"])
def test_gap_in_a_buffer_over_80_percent_full_is_filled(start, reference, file):
    """Nine of ten are left, but the trainer would have to wait for the third."""
    gap = Position(0, 2)
    events = []

    def report(status):
        assert len(events) < MANY_LOOKS, "the gap is not filled"
        events.append(status.num_ready)
        buffer = report.buffer
        if "deleted" not in events and status.num_ready == 10:
            getattr(buffer, f"{file}_path")(gap).unlink()
            events.append("deleted")
        elif "deleted" in events and gap in buffer.ready():
            assert buffer.images_path(gap).read_bytes() == reference[gap][0]
            assert buffer.labels_path(gap).read_bytes() == reference[gap][1]
            raise InterruptionError

    with pytest.raises(InterruptionError):
        start(buffer_size=10, report=report, notify=lambda line: None).run()


def test_refill_waits_until_less_than_80_percent_is_left(start):
    """Of ten: with nine and with eight left nothing is made, with seven it goes on."""
    num_looks_at = collections.Counter()

    def report(status):
        assert sum(num_looks_at.values()) < MANY_LOOKS
        num_looks_at[status.trained.batch_index] += 1
        trained = status.trained.batch_index
        if trained == 0 and status.num_ready == 10:
            report.num_made = status.num_made
            write_progress(report.buffer.folder, Position(0, 1))
        elif trained in (1, 2):
            assert (status.num_ready, status.num_made) == (10 - trained, 10)
            # Long enough for workers that wait in line to have finished a batch.
            if num_looks_at[trained] == 20:
                write_progress(report.buffer.folder, Position(0, trained + 1))
        elif trained == 3 and status.num_made > 10:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        start(buffer_size=10, report=report, notify=lambda line: None).run()


def test_killed_worker_is_replaced_and_every_batch_made(start, reference, monkeypatch):
    monkeypatch.setattr(refill, "make_and_write", die_once_half_way)
    trainer, said = Trainer(None), []
    start(num_workers=2, report=trainer, notify=said.append).run()
    assert (trainer.buffer.folder / "has_died").exists()
    assert trainer.consumed == reference
    assert "a worker process died (out of memory?); starting new ones" in said


def test_workers_that_die_again_and_again_are_given_up(start, monkeypatch):
    monkeypatch.setattr(refill, "make_and_write", exit_at_once)
    trainer, said = Trainer(None), []
    with pytest.raises(WorkersDyingError, match="out of memory"):
        start(report=trainer, notify=said.append).run()
    assert trainer.consumed == {}
    assert sum("worker process died" in line for line in said) == 2


def test_unreadable_images_are_said_logged_and_counted_once(start, paths):
    broken = paths[3:5]
    for path in broken:
        path.write_bytes(b"not an image")
    trainer, said = Trainer(None), []
    start(num_workers=2, report=trainer, notify=said.append).run()
    assert len(trainer.consumed) == END_STEP
    log = trainer.buffer.folder / "unreadable_images.txt"
    lines = log.read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in lines) == sorted(map(str, broken))
    assert all("no image" in line.split("\t")[1] for line in lines)
    for path in broken:
        assert sum(line.startswith(f"{path}: unreadable") for line in said) == 1
    assert trainer.statuses[-1].num_unreadable == 2

    # It is written again where it is deleted with the folder.
    log.unlink()
    UnreadableLog(log.parent).restore()
    assert not log.exists()
    restored = UnreadableLog(log.parent)
    for line in lines:
        restored.add(*line.split("\t"))
    log.unlink()
    restored.restore()
    assert log.read_text().splitlines() == lines

    # A second run in the same folder knows them.
    (trainer.buffer.folder / FILE_NAME).unlink()
    again, said = Trainer(None), []
    start(report=again, notify=said.append).run()
    assert log.read_text().splitlines() == lines
    assert not any(": unreadable" in line for line in said)
    assert again.statuses[0].num_unreadable == 2


def test_disk_with_the_images_that_comes_back_is_waited_for(start, tmp_path, reference):
    """Said when the wait starts and when it ends, however often it tries meanwhile."""
    trainer, said = Trainer(None), []
    images, unmounted = tmp_path / "images", tmp_path / "unmounted"

    def report(status):
        trainer.buffer = report.buffer
        trainer(status)
        if len(trainer.statuses) == 100:
            unmounted.rename(images)

    refill = start(num_workers=2, report=report, notify=said.append)
    images.rename(unmounted)
    refill.run()
    assert trainer.consumed == reference
    assert said[-1] == "batches are being made again"
    assert not (trainer.buffer.folder / "unreadable_images.txt").exists()
    complaints = [line for line in said if "cannot be made" in line]
    assert "none of the 4 images of epoch 0, batch" in complaints[0]
    assert len(complaints) == 1


LOCK = "runtime_preprocessing.lock"


@pytest.mark.parametrize(
    ("delete", "named"),
    [
        (shutil.rmtree, ""),
        (lambda folder: (shutil.rmtree(folder), folder.mkdir()), ""),
        (lambda folder: (folder.rename(f"{folder}.old"), folder.mkdir()), ""),
        (lambda folder: (folder / LOCK).unlink(), LOCK),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
    ],
    ids=["removed", "emptied", "replaced", "lock", "manifest"],
)
def test_what_is_deleted_is_named_and_made_again(start, reference, delete, named):
    trainer, said = Trainer(None, is_waiting=True), []

    def report(status):
        trainer.buffer = folder = report.buffer
        if status.num_ready == 5 and trainer.is_waiting:
            trainer.is_waiting = False
            delete(folder.folder)
        else:
            trainer(status)

    start(report=report, notify=said.append).run()
    assert trainer.consumed == reference
    folder = trainer.buffer.folder
    assert [line for line in said if "training_progress" not in line] == [
        f"{folder / named}: was deleted; made again"
    ]
    assert locks.is_alive(folder, locks.PREPROCESSOR)
    assert read_manifest(folder) is not None


def test_a_folder_whose_disk_is_gone_is_waited_for(start, tmp_path, reference):
    (tmp_path / "disk").mkdir()
    trainer, said = Trainer(None, is_waiting=True), []

    def report(status):
        trainer.buffer = report.buffer
        if status.num_ready == 5 and trainer.is_waiting:
            trainer.is_waiting = False
            (tmp_path / "disk").rename(tmp_path / "unmounted")
        else:
            trainer(status)

    def notify(line):
        said.append(line)
        if "trying again" in line:
            assert not (tmp_path / "disk").exists()
            (tmp_path / "unmounted").rename(tmp_path / "disk")

    start("disk/buffer", report=report, notify=notify).run()
    assert trainer.consumed == reference
    assert (
        f"{tmp_path / 'disk/buffer'}: is missing, and so is the folder above it (is "
        "its disk mounted?); trying again every 0.01 s"
    ) in said


def test_a_second_preprocessor_on_a_new_lock_file_ends_the_first(start):
    others = []

    def report(status):
        (report.buffer.folder / LOCK).unlink()
        others.append(locks.Role(report.buffer.folder, locks.PREPROCESSOR))

    with pytest.raises(locks.AlreadyRunningError, match="already runs here"):
        start(report=report, notify=lambda line: None).run()
    assert others[0].is_held()
    others[0].close()


def test_full_disk_is_waited_for(start, monkeypatch, reference):
    monkeypatch.setattr(refill, "make_and_write", fail_while_disk_is_full)
    trainer, said = Trainer(None), []

    def report(status):
        trainer.buffer = report.buffer
        trainer(status)
        if len(trainer.statuses) == 100:
            (report.buffer.folder / "disk_is_full").unlink()

    run = start(num_workers=2, report=report, notify=said.append).run
    (report.buffer.folder / "disk_is_full").touch()
    run()
    assert trainer.consumed == reference
    complaint, relief = said[1:]
    assert complaint.startswith("epoch 0, batch ")
    assert complaint.endswith(
        " cannot be made: [Errno 28] No space left on device; trying again every 0.01 s"
    )
    assert relief == "batches are being made again"


def test_buffer_that_is_smaller_than_asked_if_the_disk_is(tmp_path, monkeypatch):
    buffer = BatchBuffer(tmp_path)
    reserve = 64 * 2**20

    def fit(free, wanted=1000, total=10**12):
        usage = type("Usage", (), {"free": free, "total": total})
        monkeypatch.setattr(refill.shutil, "disk_usage", lambda folder: usage)
        return fitting_buffer_size(buffer, wanted, batch_bytes=1_000_000)

    assert fit(reserve + 2_000_000_000) == 1000
    assert fit(reserve + 7_999_999) == 7
    assert fit(reserve + 1_000_000, wanted=1) == 1
    with pytest.raises(DiskSpaceError, match=r"68\.5 MB free, but two batches"):
        fit(reserve + 1_400_000)
    # On a container's /dev/shm of 64 MB the reserve is two hundredths of that.
    assert fit(64 * 2**20, total=64 * 2**20) == 65
    # What is there already has its room.
    for batch_index in range(3):
        buffer.images_path(Position(0, batch_index)).touch()
        buffer.labels_path(Position(0, batch_index)).touch()
    assert fit(0) == 3


def test_log_keeps_one_line_for_any_name(tmp_path):
    log = UnreadableLog(tmp_path)
    names = ["a b.JPEG", "tab\tand\nline.JPEG", os.fsdecode(b"caf\xe9.JPEG")]
    assert [log.add(name, "reason") for name in names] == [True, True, True]
    assert [log.add(name, "reason") for name in names] == [False, False, False]
    assert log.path.read_bytes().splitlines() == [
        b"a b.JPEG\treason",
        b"tab?and?line.JPEG\treason",
        b"caf\xe9.JPEG\treason",
    ]
    again = UnreadableLog(tmp_path)
    assert len(again) == 3
    assert not again.add(names[1], "another reason")


def test_farther_batches_do_not_keep_the_next_one_out_of_a_full_disk(
    start, reference, monkeypatch
):
    """Three of five fit, and of the three that are there the trainer's is missing."""
    monkeypatch.setattr(refill, "make_and_write", write_on_a_disk_for_three)
    trainer, said = Trainer(None), []
    full = start(report=trainer, notify=said.append)
    for step in (1, 2, 3):
        position = to_position(step, BATCHES_PER_EPOCH)
        images, labels = reference[position]
        trainer.buffer.images_path(position).write_bytes(images)
        trainer.buffer.labels_path(position).write_bytes(labels)
    full.run()
    assert trainer.consumed == reference
    assert sum("No space left" in line for line in said) >= 1


def test_temporaries_of_a_killed_worker_go_with_it(start, monkeypatch):
    monkeypatch.setattr(refill, "make_and_write", die_once_half_way)
    trainer = Trainer(None)
    start(report=trainer, notify=lambda line: None).run()
    assert list(trainer.buffer.folder.glob(".writing-*")) == []
