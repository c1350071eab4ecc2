"""Proves what the refill plans, which position it accepts, and what it makes.

Planning and following are tested without workers. Whole runs use real workers on flat
images. The trainer is an observer that consumes ready batches at each poll, so no test
depends on timing. Files are compared bitwise across numbers of workers, restarts and
killed workers.
"""

import collections
import contextlib
import errno
import functools
import os
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from resnet50.dataset.class_folders import list_class_folders
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.remote import store
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.lost_folder import PreprocessorFiles
from resnet50.handoff.manifest import adopt_buffer, read_manifest
from resnet50.handoff.progress import (
    FILE_NAME,
    Position,
    StepRange,
    read_progress,
    to_position,
    write_progress,
)
from resnet50.preprocessing import buffer_folder, refill, trainer_watch
from resnet50.preprocessing.batches import Assignments
from resnet50.preprocessing.buffer_folder import (
    DiskSpaceError,
    Plan,
    UnreadableLog,
    fitting_buffer_size,
    plan_refill,
)
from resnet50.preprocessing.process_pool import (
    WorkerPool,
    WorkersDiedError,
    worker_pool,
)
from resnet50.preprocessing.refill import Refill, RefillSettings
from resnet50.preprocessing.trainer_watch import ProgressFollower
from tests.dataset.layout_examples import tar_of
from tests.dataset.remote.servers import IMPATIENT, file_server
from tests.doubles import RecordingObserver
from tests.images import make_class_folders
from tests.preprocessing.batch_settings import make_settings
from tests.preprocessing.workloads import (
    die_once_half_way,
    exit_at_once,
    fail_while_disk_is_full,
    fail_while_quota_is_exceeded,
    run_out_of_memory_once,
    write_on_a_disk_for_three,
)

# 25 images in batches of 4; two epochs.
BATCHES_PER_EPOCH = 6
END_STEP = 12

# A run that has polled this often will never end; the test fails instead of waiting.
MANY_POLLS = 3_000


class TestPlan:
    """plan_refill, with the window [10, 15) except where a test has another."""

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
        """The new window shares only two batches with the old one."""
        old = {12, 13, 14, 15, 16}
        plan = plan_refill(range(9, 14), old, old)
        assert plan == Plan([14, 15, 16], [9, 10, 11], 0)

    def test_end_of_the_training(self):
        assert plan_refill(range(14, 15), {14}, {13, 14}) == Plan([13], [], 1)
        assert plan_refill(range(15, 15), [], {14}) == Plan([14], [], 0)


class TestFollower:
    """ProgressFollower, from step 6 (epoch 1) to step 12."""

    @pytest.fixture
    def observer(self):
        return RecordingObserver()

    @pytest.fixture
    def follow(self, tmp_path, observer):
        def follow(folder=tmp_path):
            steps = StepRange(6, END_STEP, BATCHES_PER_EPOCH)
            return ProgressFollower(folder, steps, observer)

        return follow

    @staticmethod
    def write(folder, step):
        write_progress(folder, to_position(step, BATCHES_PER_EPOCH))

    def test_starts_at_epoch_start_without_a_file_and_reports_it_once(
        self, tmp_path, follow, observer
    ):
        follower = follow()
        assert [follower.trained_step() for _ in range(3)] == [6, 6, 6]
        assert observer.lines == [
            f"{tmp_path / FILE_NAME}: does not exist (train.py writes it)"
        ]
        assert not follower.trainer_is_alive

    @pytest.mark.parametrize("step", [6, 9, 11])
    def test_a_dead_trainers_position_is_where_it_will_resume(
        self, tmp_path, follow, observer, step
    ):
        self.write(tmp_path, step)
        assert follow().trained_step() == step
        assert observer.lines == []

    def test_an_old_file_of_a_finished_training_is_not_accepted(
        self, tmp_path, follow, observer
    ):
        self.write(tmp_path, END_STEP)
        follower = follow()
        assert [follower.trained_step() for _ in range(3)] == [6, 6, 6]
        assert observer.lines == [
            f"{tmp_path / FILE_NAME}: says that the training has finished; starting at "
            "epoch 1, batch 0"
        ]

    def test_an_old_file_is_not_accepted_while_a_new_trainer_starts(
        self, tmp_path, follow
    ):
        """The new trainer locks, and loads TensorFlow before it writes a position."""
        self.write(tmp_path, END_STEP)
        follower = follow()
        with locks.exclusive_role(tmp_path, locks.TRAINER):
            assert follower.trained_step() == 6
            assert follower.trainer_is_alive
            self.write(tmp_path, 6)
            assert follower.trained_step() == 6

    def test_a_position_written_during_a_poll_does_not_prove_the_old_one(
        self, tmp_path, follow, monkeypatch
    ):
        """Otherwise the preprocessor would end when a new trainer starts."""
        self.write(tmp_path, END_STEP)
        follower = follow()

        def read_and_replace(*arguments):
            step = read_progress(*arguments)
            self.write(tmp_path, 6)
            return step

        monkeypatch.setattr(trainer_watch, "read_progress", read_and_replace)
        assert [follower.trained_step() for _ in range(2)] == [6, 6]

    def test_a_position_before_epoch_start_is_accepted_from_a_running_trainer_only(
        self, tmp_path, follow, observer
    ):
        self.write(tmp_path, 3)
        follower = follow()
        assert follower.trained_step() == 6
        assert observer.lines == [
            f"{tmp_path / FILE_NAME}: says epoch 0, batch 3, before --epoch_start; "
            "starting at epoch 1, batch 0"
        ]
        with locks.exclusive_role(tmp_path, locks.TRAINER):
            self.write(tmp_path, 3)
            assert follower.trained_step() == 3

    @pytest.mark.parametrize("hours", [0, -1, 1])
    def test_a_trainer_that_finishes_while_watched_is_accepted(
        self, tmp_path, follow, hours
    ):
        """Even if the clock has jumped, so that its file looks older than this one."""
        self.write(tmp_path, 11)
        follower = follow()
        assert follower.trained_step() == 11
        self.write(tmp_path, END_STEP)
        at = time.time() + 3600 * hours
        os.utime(tmp_path / FILE_NAME, (at, at))
        # The trainer may have ended by now.
        assert follower.trained_step() == END_STEP

    def test_follows_forwards_and_backwards(self, tmp_path, follow):
        follower = follow()
        with locks.exclusive_role(tmp_path, locks.TRAINER):
            for step in (6, 7, 11, 8, 0, 12):
                self.write(tmp_path, step)
                assert follower.trained_step() == step
                assert follower.trainer_is_alive

    def test_reports_where_a_trainer_ended(self, tmp_path, follow, observer):
        follower = follow()
        with locks.exclusive_role(tmp_path, locks.TRAINER):
            self.write(tmp_path, 8)
            assert follower.trained_step() == 8
        assert [follower.trained_step() for _ in range(2)] == [8, 8]
        assert observer.lines == ["train.py has gone; it was at epoch 1, batch 2"]

    def test_a_trainer_that_makes_no_progress_is_reported_once_each_time(
        self, tmp_path, follow, observer, monkeypatch
    ):
        """Such as one that Ctrl-Z has stopped: it holds its lock, so it has not gone.

        Not while it waits for a batch, nor if this process was stopped meanwhile.
        """
        now = 1000.0
        monkeypatch.setattr(trainer_watch.time, "monotonic", lambda: now)
        follower = follow()

        def polls(minutes, *, is_batch_ready=True):
            nonlocal now
            for _ in range(6 * minutes):
                now += 10
                follower.trained_step()
                follower.check_trainer(is_batch_ready=is_batch_ready)
            lines = observer.lines[:]
            observer.lines.clear()
            return lines

        self.write(tmp_path, 8)
        assert polls(10) == []
        with locks.exclusive_role(tmp_path, locks.TRAINER):
            assert polls(4) == []
            self.write(tmp_path, 9)
            assert polls(4) == []
            assert polls(10, is_batch_ready=False) == []
            now += 100_000
            assert polls(3) == []
            assert polls(10) == [
                f"train.py runs, process {os.getpid()}, but has stayed at epoch 1, "
                "batch 3 for 300 s (see its terminal; if Ctrl-Z stopped it, fg "
                "continues it)"
            ]
            self.write(tmp_path, 10)
            assert polls(4) == []
            assert len(polls(10)) == 1
        assert polls(10) == ["train.py has gone; it was at epoch 1, batch 4"]

    def test_a_trainer_whose_folder_is_deleted_is_still_running(
        self, tmp_path, follow, observer
    ):
        """Nor is its missing file reported."""
        folder = tmp_path / "buffer"
        folder.mkdir()
        follower = follow(folder)
        with locks.exclusive_role(folder, locks.TRAINER) as role:
            self.write(folder, 8)
            assert follower.trained_step() == 8
            shutil.rmtree(folder)
            assert follower.trained_step() == 8
            folder.mkdir()
            assert follower.trained_step() == 8
            role.take_again(make_folder=False)
            assert follower.trained_step() == 8
            assert observer.lines == []
        follower.trained_step()
        assert "train.py has gone; it was at epoch 1, batch 2" in observer.lines

    def test_sleep_ends_when_the_trainers_file_is_deleted(
        self, tmp_path, follow, monkeypatch
    ):
        self.write(tmp_path, 8)
        naps = []

        def nap(seconds):
            naps.append(seconds)
            assert len(naps) < 10, "it continues to sleep"
            if len(naps) == 2:
                (tmp_path / FILE_NAME).unlink()

        monkeypatch.setattr(trainer_watch.time, "sleep", nap)
        follow().sleep(3600)
        assert naps == [1.0, 1.0]

    def test_sleep_ends_when_the_trainer_goes_back(self, tmp_path, follow, monkeypatch):
        """It has resumed from an earlier checkpoint, whose batches are deleted."""
        naps = []

        def nap(seconds):
            naps.append(seconds)
            assert len(naps) < 10, "it continues to sleep"
            self.write(tmp_path, {2: 9, 4: 7}.get(len(naps), 8))

        self.write(tmp_path, 8)
        monkeypatch.setattr(trainer_watch.time, "sleep", nap)
        follow().sleep(3600)
        assert len(naps) == 3  # Back from 9 to 8.

    def test_sleep_ends_when_the_trainer_starts(self, tmp_path, follow, monkeypatch):
        follower = follow()
        naps = []
        with contextlib.ExitStack() as trainer:

            def nap(seconds):
                naps.append(seconds)
                assert len(naps) < 10, "it continues to sleep"
                if len(naps) == 3:
                    role = locks.exclusive_role(tmp_path, locks.TRAINER)
                    trainer.enter_context(role)

            monkeypatch.setattr(trainer_watch.time, "sleep", nap)
            follower.sleep(3600)
        assert naps == [1.0, 1.0, 1.0]

    @pytest.mark.parametrize(
        "garbage", [b"", b"1\n", b"1\n6\n", b"2\n1\n", b"\xff\xfe"], ids=repr
    )
    def test_garbage_is_reported_once_and_the_last_position_kept(
        self, tmp_path, follow, observer, garbage
    ):
        self.write(tmp_path, 8)
        follower = follow()
        assert follower.trained_step() == 8
        for _ in range(2):
            (tmp_path / FILE_NAME).write_bytes(garbage)
            assert [follower.trained_step() for _ in range(3)] == [8, 8, 8]
            self.write(tmp_path, 8)
            assert follower.trained_step() == 8
        # Once per appearance.
        assert len(observer.lines) == 2
        assert all(
            line.startswith(f"{tmp_path / FILE_NAME}: ") for line in observer.lines
        )


class InterruptionError(Exception):
    """Simulates Ctrl-C in the middle of a run."""


class Watcher(RecordingObserver):
    """Passes each status to a function; ``start`` sets its buffer."""

    def __init__(self, show=lambda status: None, **options):
        super().__init__(show=show, **options)
        self.buffer = None

    def show(self, status):
        assert len(self.statuses) < MANY_POLLS, "the run does not come to an end"
        super().show(status)


class Trainer(Watcher):
    """Consumes ready batches at each poll of the preprocessor, and keeps their bytes.

    It first passes the status to a function, if it has one.
    """

    def __init__(self, show=lambda status: None, *, is_waiting=False, **options):
        super().__init__(show, **options)
        self.step = 0
        self.consumed = {}
        self.stop_at = None
        self.is_waiting = is_waiting

    def show(self, status):
        super().show(status)
        while not self.is_waiting and self.step < END_STEP:
            position = to_position(self.step, BATCHES_PER_EPOCH)
            if position not in self.buffer.ready():
                break
            self.consumed[position] = (
                self.buffer.images_path(position).read_bytes(),
                self.buffer.labels_path(position).read_bytes(),
            )
            self.step += 1
            self.write_progress(self.step)
            if self.step == self.stop_at:
                raise InterruptionError

    def write_progress(self, step):
        write_progress(self.buffer.folder, to_position(step, BATCHES_PER_EPOCH))


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

    def start(
        observer,
        folder_name="buffer",
        *,
        num_workers=1,
        buffer_size=5,
        dataset=None,
        open_pool=worker_pool,
    ):
        folder = tmp_path / folder_name
        folder.mkdir(exist_ok=True)
        observer.buffer = buffer = BatchBuffer(folder)
        dataset = dataset or list_class_folders(tmp_path / "images")
        settings = make_settings()
        assert dataset.batches_per_epoch(settings.batch_size) == BATCHES_PER_EPOCH
        manifest = settings.manifest(dataset)
        adopt_buffer(buffer, manifest, observer.notify)
        steps = StepRange(0, END_STEP, BATCHES_PER_EPOCH)
        return Refill(
            buffer,
            PreprocessorFiles(role_in(folder), buffer, manifest, observer),
            Assignments(dataset, settings),
            ProgressFollower(folder, steps, observer),
            RefillSettings(buffer_size, refill_below=0.8, sleep_seconds=0.01),
            functools.partial(open_pool, num_workers),
            observer,
        )

    return start


@pytest.fixture
def reference(start):
    """The bytes of every batch, made by one worker in one run."""
    trainer = Trainer()
    start(trainer, "reference").run()
    return trainer.consumed


def test_three_workers_and_a_restart_in_the_middle_make_the_same_files(
    start, reference
):
    assert list(reference) == [to_position(s, BATCHES_PER_EPOCH) for s in range(12)]
    assert len(set(reference.values())) == 12

    trainer = Trainer()
    start(trainer, "three", num_workers=3).run()
    assert trainer.consumed == reference

    trainer = Trainer()
    trainer.stop_at = 4
    refill = start(trainer, "again", num_workers=2)
    with pytest.raises(InterruptionError):
        refill.run()
    trainer.stop_at = None
    start(trainer, "again", num_workers=2).run()
    assert trainer.consumed == reference


def test_buffer_never_holds_more_than_its_size_and_ends_empty(start):
    sizes = []
    trainer = Trainer(lambda status: sizes.append(len(trainer.buffer.ready())))
    start(trainer, num_workers=2, buffer_size=3).run()
    assert 1 <= max(sizes) <= 3
    assert trainer.buffer.files() == {}
    assert all(status.window_size <= 3 for status in trainer.statuses)
    assert trainer.statuses[-1].trained == Position(2, 0)


def test_a_trainer_that_goes_back_gets_the_same_batches_again(start, reference):
    went_back = []

    def go_back_once(status):
        if trainer.step >= 8 and not went_back:
            went_back.append(trainer.step)
            trainer.step = 2
            trainer.consumed.clear()
            trainer.write_progress(2)

    trainer = Trainer(go_back_once)
    start(trainer, num_workers=2).run()
    assert went_back
    assert trainer.consumed == {p: reference[p] for p in list(reference)[2:]}


@pytest.mark.parametrize("file", ["images", "labels"])
def test_gap_in_a_buffer_over_80_percent_full_is_filled(start, reference, file):
    """Nine of ten are left, but the trainer would wait for the third."""
    gap = Position(0, 2)
    deleted = []

    def show(status):
        buffer = watcher.buffer
        if not deleted and status.num_ready == 10:
            deleted.append(getattr(buffer, f"{file}_path")(gap).unlink())
        elif deleted and gap in buffer.ready():
            assert buffer.images_path(gap).read_bytes() == reference[gap][0]
            assert buffer.labels_path(gap).read_bytes() == reference[gap][1]
            raise InterruptionError

    watcher = Watcher(show)
    with pytest.raises(InterruptionError):
        start(watcher, buffer_size=10).run()


def test_refill_waits_until_less_than_80_percent_is_left(start):
    """Nothing is made while eight or nine of ten are left; with seven, it continues."""
    num_polls_at = collections.Counter()

    def show(status):
        trained = status.trained.batch_index
        num_polls_at[trained] += 1
        folder = watcher.buffer.folder
        if trained == 0 and status.num_ready == 10:
            write_progress(folder, Position(0, 1))
        elif trained in (1, 2):
            assert (status.num_ready, status.num_made) == (10 - trained, 10)
            # Long enough for waiting tasks to have finished a batch.
            if num_polls_at[trained] == 20:
                write_progress(folder, Position(0, trained + 1))
        elif trained == 3 and status.num_made > 10:
            raise InterruptionError

    watcher = Watcher(show)
    with pytest.raises(InterruptionError):
        start(watcher, buffer_size=10).run()


def test_a_pool_that_shrinks_gets_no_more_tasks_than_its_workers_need(start):
    """As a cluster's pool does when hosts leave it."""

    class Pool(WorkerPool):
        num_workers = 3
        num_submitted = 0

        def submit(self, *task):
            self.num_submitted += 1
            return Future()

    def shrink(status):
        if pool.num_submitted:
            if pool.num_workers == 1:
                raise InterruptionError
            pool.num_workers = 1

    pool = Pool()
    refill = start(RecordingObserver(show=shrink), buffer_size=END_STEP)
    with pytest.raises(InterruptionError):
        refill._run_with(pool)
    assert pool.num_submitted == 6


def test_killed_worker_is_replaced_and_every_batch_made(start, reference, monkeypatch):
    monkeypatch.setattr(refill, "make_and_write", die_once_half_way)
    trainer = Trainer()
    start(trainer, num_workers=2).run()
    assert (trainer.buffer.folder / "has_died").exists()
    assert trainer.consumed == reference
    assert "a worker process died (out of memory?); starting new ones" in trainer.lines


def test_gives_up_when_workers_die_again_and_again(start, monkeypatch):
    monkeypatch.setattr(refill, "make_and_write", exit_at_once)
    trainer = Trainer()
    with pytest.raises(WorkersDiedError, match="out of memory"):
        start(trainer).run()
    assert trainer.consumed == {}
    assert sum("worker process died" in line for line in trainer.lines) == 2


def test_unreadable_images_are_reported_logged_and_counted_once(start, paths):
    broken = paths[3:5]
    for path in broken:
        path.write_bytes(b"not an image")
    trainer = Trainer()
    start(trainer, num_workers=2).run()
    assert len(trainer.consumed) == END_STEP
    log = trainer.buffer.folder / "unreadable_images.txt"
    lines = log.read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in lines) == sorted(map(str, broken))
    assert all("no image" in line.split("\t")[1] for line in lines)
    for path in broken:
        assert (
            sum(line.startswith(f"{path}: unreadable") for line in trainer.lines) == 1
        )
    assert trainer.statuses[-1].num_unreadable == 2

    # The log is written again if it was deleted with the folder.
    log.unlink()
    UnreadableLog(log.parent).restore()
    assert not log.exists()
    restored = UnreadableLog(log.parent)
    for line in lines:
        restored.add(*line.split("\t"))
    log.unlink()
    restored.restore()
    assert log.read_text().splitlines() == lines

    # A second run in the same folder reads the log.
    (trainer.buffer.folder / FILE_NAME).unlink()
    again = Trainer()
    start(again).run()
    assert log.read_text().splitlines() == lines
    assert not any(": unreadable" in line for line in again.lines)
    assert again.statuses[0].num_unreadable == 2


def test_waits_for_the_disk_with_the_images(start, tmp_path, reference):
    """Reported when the wait starts and ends, however often it is tried."""
    images, unmounted = tmp_path / "images", tmp_path / "unmounted"
    waited = []

    def mount_later(status):
        if any("cannot be made" in line for line in trainer.lines):
            waited.append(status)
        if len(waited) == 20 and unmounted.exists():
            unmounted.rename(images)

    trainer = Trainer(mount_later)
    refill = start(trainer, num_workers=2)
    images.rename(unmounted)
    refill.run()
    assert trainer.consumed == reference
    assert trainer.lines[-1] == "batches are being created again"
    assert not (trainer.buffer.folder / "unreadable_images.txt").exists()
    complaints = [line for line in trainer.lines if "cannot be made" in line]
    assert "none of the 4 images of epoch 0, batch" in complaints[0]
    assert len(complaints) == 1


class ThreadPool(ThreadPoolExecutor, WorkerPool):
    """Workers that see what a test has replaced."""

    def __init__(self, num_workers):
        super().__init__(num_workers)
        self.num_workers = num_workers


def test_waits_for_the_server_with_the_images(
    start, tmp_path, paths, reference, monkeypatch
):
    """No image is replaced because a server was away."""
    monkeypatch.setattr(store, "PATIENCE", IMPATIENT)
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    content = [(name, path.read_bytes()) for name, path in zip(names, paths)]
    with file_server() as server:
        server.files["a.tar"] = tar_of(content)
        dataset = open_dataset(f"{server.url}/a.tar", None)
        server.always = "503"

        def come_back(status):
            if any("503" in line for line in trainer.lines):
                server.always = ""

        trainer = Trainer(come_back)
        start(trainer, num_workers=2, dataset=dataset, open_pool=ThreadPool).run()
    assert trainer.consumed == reference
    away, back = trainer.lines[-2:]
    assert f"cannot be made: {server.url}/a.tar: 503 Service Unavailable" in away
    assert away.endswith("; trying again every 0.01 s")
    assert back == "batches are being created again"


LOCK = "runtime_preprocessing.lock"


def delete_when_full(delete, **options):
    """A trainer that waits until the buffer is full, and then calls a function."""

    def show(status):
        # The trainer starts at the next poll.
        if deleted:
            trainer.is_waiting = False
        elif status.num_ready == 5:
            deleted.append(delete())

    deleted = []
    trainer = Trainer(show, is_waiting=True, **options)
    return trainer


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
def test_deleted_files_are_named_and_created_again(start, reference, delete, named):
    trainer = delete_when_full(lambda: delete(trainer.buffer.folder))
    start(trainer).run()
    assert trainer.consumed == reference
    folder = trainer.buffer.folder
    assert [line for line in trainer.lines if "training_progress" not in line] == [
        f"{folder / named}: was deleted; created again"
    ]
    assert locks.is_alive(folder, locks.PREPROCESSOR)
    assert read_manifest(folder) is not None


def test_waits_for_the_disk_of_the_buffer_folder(start, tmp_path, reference):
    disk, unmounted = tmp_path / "disk", tmp_path / "unmounted"
    disk.mkdir()

    def notify(line):
        if "trying again" in line:
            assert not disk.exists()
            unmounted.rename(disk)

    trainer = delete_when_full(lambda: disk.rename(unmounted), notify=notify)
    start(trainer, "disk/buffer").run()
    assert trainer.consumed == reference
    assert (
        f"{tmp_path / 'disk/buffer'}: is missing, and so is the folder above it (is "
        "its disk mounted?); trying again every 0.01 s"
    ) in trainer.lines


def test_a_second_preprocessor_on_a_new_lock_file_ends_the_first(start):
    others = []

    def show(status):
        (watcher.buffer.folder / LOCK).unlink()
        others.append(locks.Role(watcher.buffer.folder, locks.PREPROCESSOR))

    watcher = Watcher(show)
    with pytest.raises(locks.AlreadyRunningError, match="already runs here"):
        start(watcher).run()
    assert others[0].is_held()
    others[0].close()


def test_waits_for_room_on_a_full_disk(start, monkeypatch, reference):
    monkeypatch.setattr(refill, "make_and_write", fail_while_disk_is_full)

    def free_room_later(status):
        if len(trainer.lines) > 1:  # It has complained.
            (trainer.buffer.folder / "disk_is_full").unlink(missing_ok=True)

    trainer = Trainer(free_room_later)
    refill_full = start(trainer, num_workers=2)
    (trainer.buffer.folder / "disk_is_full").touch()
    refill_full.run()
    assert trainer.consumed == reference
    complaint, relief = trainer.lines[1:]
    assert complaint.startswith("epoch 0, batch ")
    assert complaint.endswith(
        " cannot be made: [Errno 28] No space left on device; trying again every 0.01 s"
    )
    assert relief == "batches are being created again"


def test_a_small_disk_limits_the_buffer_size(tmp_path, monkeypatch):
    buffer = BatchBuffer(tmp_path)
    reserve = 64 * 2**20

    def fit(free, wanted=1000, total=10**12):
        usage = type("Usage", (), {"free": free, "total": total})
        monkeypatch.setattr(buffer_folder.shutil, "disk_usage", lambda folder: usage)
        return fitting_buffer_size(buffer, wanted, batch_bytes=1_000_000)

    assert fit(reserve + 2_000_000_000) == 1000
    assert fit(reserve + 7_999_999) == 7
    assert fit(reserve + 1_000_000, wanted=1) == 1
    with pytest.raises(DiskSpaceError, match=r"68\.5 MB free, but two batches"):
        fit(reserve + 1_400_000)
    # On a container's /dev/shm of 64 MB the reserve is two hundredths of that.
    assert fit(64 * 2**20, total=64 * 2**20) == 65
    # Existing batches count as room.
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


def test_a_torn_last_line_is_no_image(tmp_path):
    path = UnreadableLog(tmp_path).path
    path.write_bytes(b"a.JPEG\treason\nn0144")
    log = UnreadableLog(tmp_path)
    assert len(log) == 1
    assert log.add("n01440764.JPEG", "reason")
    assert path.read_bytes().splitlines()[-1] == b"n01440764.JPEG\treason"
    assert len(UnreadableLog(tmp_path)) == 2


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (write_on_a_disk_for_three, "No space left"),
        (fail_while_quota_is_exceeded, "quota exceeded"),
    ],
)
def test_farther_batches_do_not_keep_the_next_one_out_of_a_full_disk(
    start, reference, monkeypatch, write, error
):
    """Three of five fit. Three exist, but not the one that the trainer needs."""
    monkeypatch.setattr(refill, "make_and_write", write)
    trainer = Trainer()
    full = start(trainer)
    for step in (1, 2, 3):
        position = to_position(step, BATCHES_PER_EPOCH)
        images, labels = reference[position]
        trainer.buffer.images_path(position).write_bytes(images)
        trainer.buffer.labels_path(position).write_bytes(labels)
    full.run()
    assert trainer.consumed == reference
    assert sum(error in line for line in trainer.lines) >= 1


def test_temporaries_of_a_killed_worker_go_with_it(start, monkeypatch):
    monkeypatch.setattr(refill, "make_and_write", die_once_half_way)
    trainer = Trainer()
    start(trainer).run()
    assert list(trainer.buffer.folder.glob(".writing-*")) == []


def test_a_worker_without_memory_is_reported_and_its_batch_made_later(
    start, reference, monkeypatch
):
    monkeypatch.setattr(refill, "make_and_write", run_out_of_memory_once)
    trainer = Trainer()
    start(trainer).run()
    assert trainer.consumed == reference
    complaint, relief = trainer.lines[1:]
    assert complaint == (
        "epoch 0, batch 0 cannot be made: Unable to allocate 115. MiB (lower "
        "[runtime_preprocessing] num_workers); trying again every 0.01 s"
    )
    assert relief == "batches are being created again"


def test_a_log_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "unreadable_images.txt"
    path.touch()

    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Input/output") as caught:
        UnreadableLog(tmp_path)
    assert caught.value.filename == str(path)


def test_temporaries_that_cannot_be_deleted_end_nothing(start, reference, monkeypatch):
    """A worker dies because its disk fails, which fails for the preprocessor too."""

    def fail(buffer):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(refill, "make_and_write", die_once_half_way)
    monkeypatch.setattr(refill, "remove_batch_temporaries", fail)
    trainer = Trainer()
    start(trainer).run()
    assert trainer.consumed == reference
