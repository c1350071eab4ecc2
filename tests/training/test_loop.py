"""Proves what the training loop writes and when: progress, checkpoints, metrics."""

import dataclasses
import errno
import itertools
import os
import shutil
import signal
import types

import numpy as np
import pytest
import tensorflow as tf

from resnet50.config.toml_file import override
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer, BatchSpec
from resnet50.handoff.cluster import Cluster
from resnet50.handoff.manifest import ManifestError, write_manifest
from resnet50.handoff.progress import (
    FILE_NAME,
    Position,
    StepRange,
    read_position,
    to_position,
)
from resnet50.handoff.reader import Batch, BatchReader, BatchSource, ReaderSettings
from resnet50.reports.starts import STARTS_FILE, read_starts
from resnet50.reports.tables import (
    EVALUATION_FILE,
    METRICS_FILE,
    read_table,
    record_evaluation,
)
from resnet50.signals import StopRequest
from resnet50.training import checkpoint, checkpoint_folders, loop, run_files
from resnet50.training.checkpoint import SaveError
from resnet50.training.checkpoint_folders import list_checkpoints, prune
from resnet50.training.loop import Loop, LossError, place
from resnet50.training.run_files import Run
from resnet50.training.training_observer import TrainingObserver
from resnet50.training.update.mixing import Mix, mix_at
from resnet50.training.update.schedules import PerStepNumbers
from tests.doubles import NoFiles, RecordingObserver
from tests.processes import in_own_process
from tests.settings import SETTINGS
from tests.soak import Stepwise, resident_bytes
from tests.training.tiny import TinyTraining

BATCHES_PER_EPOCH = 3
SPEC = BatchSpec(batch_size=2, crop_size=4, dtype="float16", num_classes=3)
DESCRIPTION = {"num_classes": 3, "batches_per_epoch": BATCHES_PER_EPOCH}


def write_batches(buffer, num_steps):
    rng = np.random.default_rng(0)
    for step in range(num_steps):
        images = rng.standard_normal((2, 4, 4, 3)).astype(np.float16)
        labels = rng.integers(0, 3, 2, np.int32)
        buffer.write(to_position(step, BATCHES_PER_EPOCH), images, labels)


class TestObserver(RecordingObserver, TrainingObserver):
    __test__ = False

    def advise(self, speed):
        return "advice"

    def describe(self, position):
        return f"images of {position}"


class Session:
    """A run of the loop over batches that are all there; remembers what it did."""

    def __init__(
        self, folder, *, minutes=0.0, stop_after=None, training=None, **settings
    ):
        self.folder = folder
        self.run_folder = folder / "run"
        self.run_folder.mkdir(exist_ok=True)
        self.buffer = BatchBuffer(folder / "buffer")
        self.buffer.folder.mkdir(exist_ok=True)
        self.training = training or TinyTraining()
        write_manifest(self.buffer.folder, {})
        self.observer = TestObserver()
        self.progress, self.lines = [], self.observer.lines
        self.run_settings = {}
        self._minutes, self._stop_after = minutes, stop_after
        self._train = dataclasses.replace(SETTINGS.train, **settings)

    def after_step(self):
        content = (self.buffer.folder / FILE_NAME).read_text()
        self.progress.append(tuple(int(line) for line in content.split()))
        return len(self.progress) == self._stop_after

    def train(self, start, end):
        # The role: on a slow machine the reader would report that nobody has it.
        with (
            locks.exclusive_role(self.buffer.folder, locks.PREPROCESSOR),
            BatchReader(
                BatchSource(self.buffer, SPEC, {}),
                StepRange.between(start, end, BATCHES_PER_EPOCH),
                ReaderSettings(read_ahead=2, sleep_seconds=0.01, how_to_start=""),
                NoFiles(),
                self.observer,
                should_stop=lambda: self.loop.early_stop is not None,
                place=self.place,
            ) as reader,
        ):
            return self.train_on(reader, start)

    @property
    def numbers(self):
        return PerStepNumbers(self._train, SETTINGS.batch_renorm, BATCHES_PER_EPOCH)

    def place(self, batch):
        return place(self.training, self.numbers, batch)

    def train_on(self, reader, start):
        self.loop = Loop(
            self.training,
            Stepwise(reader, lambda: self.after_step()),
            self.buffer,
            Run(
                self.run_folder,
                DESCRIPTION,
                BATCHES_PER_EPOCH,
                self._minutes,
                **self.run_settings,
            ),
            self.numbers,
            self.observer,
        )
        return self.loop.run(start)

    @property
    def checkpoints(self):
        return [c.path.name for c in list_checkpoints(self.run_folder)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "buffer").mkdir()
    write_batches(BatchBuffer(tmp_path / "buffer"), 2 * BATCHES_PER_EPOCH)
    return tmp_path


def test_a_start_is_recorded_once_with_its_position(folder):
    session = Session(folder)
    session.run_settings = {"start": {"versions": {}, "settings": {"train": {}}}}
    session.train(Position(0, 0), Position(1, 0))
    session.train(Position(1, 0), Position(2, 0))
    starts = read_starts(session.run_folder / STARTS_FILE)
    assert [(start["epoch"], start["batch"]) for start in starts] == [(0, 0), (1, 0)]


def test_a_start_that_cannot_be_recorded_is_recorded_later(folder, monkeypatch):
    """With the next checkpoint; the training does not wait for it."""
    results = iter([OSError("full"), None])

    def record(path, start):
        if error := next(results):
            raise error
        recorded.append(start)

    recorded = []
    monkeypatch.setattr(run_files, "record_start", record)
    session = Session(folder)
    session.run_settings = {"start": {"device": "the CPU"}}
    session.train(Position(0, 0), Position(2, 0))
    assert recorded == [{"epoch": 0, "batch": 0, "device": "the CPU"}]
    assert session.lines[:2] == [
        "writing starts.jsonl failed, trying again later: full",
        "epoch 0: " + session.lines[1].removeprefix("epoch 0: "),
    ]
    assert "writing starts.jsonl works again" in session.lines


def evaluated(session, *top1):
    for epoch, value in enumerate(top1):
        row = {"epoch": epoch, "crops": 1, "top1": value}
        record_evaluation(session.run_folder / EVALUATION_FILE, row)


@pytest.mark.parametrize(("patience", "end"), [(0, (2, 0)), (1, (1, 0)), (2, (2, 0))])
def test_a_training_stops_early_between_two_epochs(folder, patience, end):
    session = Session(folder)
    session.run_settings = {"patience": patience}
    do_after_first_step(session, lambda: evaluated(session, 0.5, 0.4))
    assert session.train(Position(0, 0), Position(2, 0)) == end
    assert session.loop.early_stop == ((0, 1) if patience == 1 else None)
    assert session.checkpoints == ["0", "1"][: end[0]]


def test_a_training_that_has_stopped_early_makes_no_step_and_no_record(folder):
    session = Session(folder)
    session.train(Position(0, 0), Position(1, 0))
    evaluated(session, 0.5, 0.4)
    session.run_settings = {"patience": 1, "start": {}}
    assert session.train(Position(1, 0), Position(2, 0)) == (1, 0)
    assert session.loop.early_stop == (0, 1)
    assert not (session.run_folder / STARTS_FILE).exists()
    session.run_settings = {"patience": 2}
    assert session.train(Position(1, 0), Position(2, 0)) == (2, 0)


def test_a_damaged_table_of_evaluations_does_not_stop_a_training(folder):
    session = Session(folder)
    session.run_settings = {"patience": 1}
    (session.run_folder / EVALUATION_FILE).write_text("epoch,crops,top1\nx,1,0.5\n")
    assert session.train(Position(0, 0), Position(2, 0)) == (2, 0)
    (line,) = (line for line in session.lines if "failed" in line)
    assert line.startswith("reading evaluation.csv failed, trying again later: ")


def test_progress_names_the_next_batch_after_each_step(folder):
    session = Session(folder)
    assert session.train(Position(0, 0), Position(2, 0)) == (2, 0)
    assert session.progress == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


def test_each_epoch_has_a_checkpoint_and_a_row(folder):
    session = Session(folder)
    session.train(Position(0, 0), Position(2, 0))
    assert session.checkpoints == ["0", "1"]
    rows = read_table(session.run_folder / METRICS_FILE)
    assert [(row["epoch"], row["steps"]) for row in rows] == [("0", "3"), ("1", "6")]
    for row in rows:
        assert float(row["loss"]) > 0
        assert 0 <= float(row["top1"]) <= float(row["top5"]) == 1
        shares = [float(row[name]) for name in ("waiting", "saving")]
        assert all(0 <= share <= 1 for share in shares)
        assert float(row["reading"]) >= 0
    # The checkpoint after epoch 0 counts in epoch 1; that after epoch 1 in no row.
    assert [float(row["saving"]) > 0 for row in rows] == [False, True]
    told = [line for line in session.lines if "if batches were never late" in line]
    assert [line.split(":")[0] for line in told] == ["epoch 0", "epoch 1"]
    assert all(line.endswith("\n    advice") for line in told)


def test_a_profile_is_reported_every_n_steps_but_not_for_the_first(folder):
    session = Session(folder)
    session.run_settings = {"profile_steps": 2}
    session.train(Position(0, 0), Position(2, 0))
    told = [line for line in session.lines if line.startswith("the last 2 steps: ")]
    assert len(told) == 2  # Steps 1 and 2, and steps 3 and 4.
    assert all(line.endswith("\n    advice") for line in told)


def test_checkpoints_inside_an_epoch_are_saved_by_the_clock(folder):
    session = Session(folder, minutes=1e-9, stop_after=2)
    assert session.train(Position(0, 0), Position(2, 0)) == (0, 2)
    assert session.checkpoints == ["0_00002"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "float16"},
        {"mixup_alpha": 0.2, "weight_average_decay": 0.9},
        {
            "precision": "float16",
            "optimizer": "lamb",
            "l2_penalty": 0.0,
            "weight_decay": 0.02,
            "loss": "binary_cross_entropy",
            "target_threshold": 0.2,
            "mixup_alpha": 0.1,
            "cutmix_alpha": 1.0,
        },
        {
            "precision": "float16",
            "mixup_alpha": 0.2,
            "weight_average_decay": 0.9,
            "nesterov": True,
            "l2_penalty_on": "all",
        },
    ],
)
@pytest.mark.parametrize("group", [1, 2])
def test_a_stop_saves_and_a_resumed_training_has_the_same_weights(
    folder, settings, group
):
    settings = {**settings, "accumulate_batches": group}
    undisturbed = Session(folder, training=TinyTraining(**settings), **settings)
    undisturbed.train(Position(0, 0), Position(2, 0))
    rows = read_table(undisturbed.run_folder / METRICS_FILE)
    undisturbed.run_folder.rename(folder / "undisturbed")

    position = Position(0, 0)
    for _ in range(6):  # Stopped after each single step.
        training = TinyTraining(seed=9, **settings)
        session = Session(folder, stop_after=1, training=training, **settings)
        if position == (0, 0):
            session.training = TinyTraining(**settings)
        else:
            newest = list_checkpoints(session.run_folder)[-1]
            checkpoint.load(session.training, newest, DESCRIPTION)
        position = session.train(position, Position(2, 0))
    assert position == (2, 0)
    assert session.checkpoints == ["0", "1"]
    pairs = zip(undisturbed.training.variables, session.training.variables, strict=True)
    for expected, variable in pairs:
        np.testing.assert_array_equal(expected.numpy(), variable.numpy())
    for expected, row in zip(
        rows, read_table(session.run_folder / METRICS_FILE), strict=True
    ):
        for name in ("epoch", "steps", "loss", "l2_loss", "top1", "top5"):
            assert row[name] == expected[name], name


def test_what_is_trained_is_saved_before_an_error_of_the_reader(folder):
    session = Session(folder)
    read = session.buffer.read

    def replace_manifest_and_read(position, spec, empty):
        if position == Position(0, 2):
            write_manifest(session.buffer.folder, {"seed": 99})
        return read(position, spec, empty)

    session.buffer.read = replace_manifest_and_read
    with pytest.raises(ManifestError):
        session.train(Position(0, 0), Position(2, 0))
    assert session.checkpoints == ["0_00002"]


def test_an_error_of_a_poll_saves_the_step_before_it(folder, monkeypatch):
    """For example, if another trainer has taken the buffer folder."""
    monkeypatch.setattr(loop, "_POLL_SECONDS", -1.0)
    polls = []

    def check_preprocessor(reader):
        polls.append(reader)
        if len(polls) == 2:
            raise locks.AlreadyRunningError("train.py already runs here")

    monkeypatch.setattr(BatchReader, "check_preprocessor", check_preprocessor)
    session = Session(folder)
    with pytest.raises(locks.AlreadyRunningError):
        session.train(Position(0, 0), Position(2, 0))
    assert int(session.training.totals.num_batches) == 2
    assert session.checkpoints == ["0_00002"]


def test_a_loss_that_is_no_number_stops_and_names_the_batch(folder):
    class Diverging(TinyTraining):
        """Loses its weights in the fifth step."""

        def step(self, *batch_and_numbers):
            loss = super().step(*batch_and_numbers)
            if int(self.totals.num_batches) == 2 and self.had_an_epoch:
                self.model.kernel.assign(np.nan * self.model.kernel)
                return loss * np.nan
            self.had_an_epoch |= int(self.totals.num_batches) == 3
            return loss

        had_an_epoch = False

    session = Session(folder, training=Diverging())
    with pytest.raises(LossError) as caught:
        session.train(Position(0, 0), Position(2, 0))
    line, description = str(caught.value).split("\n")
    assert line.startswith("epoch 1, batch 1 (step 4): the loss is nan")
    assert description == "images of epoch 1, batch 1"
    assert session.checkpoints == ["0"]  # The last good one.


class Overflowing(TinyTraining):
    """Gets infinite pixels, which no batch file can have, in some steps."""

    def __init__(self, *steps):
        super().__init__(precision="float16")
        self._numbers = iter(range(100))
        self._overflowing = steps

    def step(self, images, *others):
        if next(self._numbers) in self._overflowing:
            images = tf.fill(images.shape, tf.constant(np.inf, images.dtype))
        return super().step(images, *others)


def test_in_float16_lost_batches_are_skipped_and_counted(folder):
    session = Session(folder, training=Overflowing(0, 2, 4))
    session.train(Position(0, 0), Position(2, 0))
    rows = read_table(session.run_folder / METRICS_FILE)
    assert [row["skipped"] for row in rows] == ["2", "1"]
    assert [row["loss_scale"] for row in rows] == ["8192", "4096"]
    assert all(float(row["loss"]) > 0 for row in rows)
    assert "skipped 2, loss scale 8192" in session.lines[0]
    assert session.checkpoints == ["0", "1"]


def test_in_float16_a_lost_batch_at_the_lowest_scale_stops(folder):
    training = Overflowing(3, 4)
    training.loss_scale.scale.assign(2.0)
    session = Session(folder, training=training)
    where = r"epoch 1, batch 1 \(step 4\): the loss is nan"
    with pytest.raises(LossError, match=where):
        session.train(Position(0, 0), Position(2, 0))
    assert session.checkpoints == ["0"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_no_step_waits_for_the_device_or_is_traced_again(
    folder, precision, monkeypatch
):
    """Tensors are read only at the end of an epoch; nothing is traced twice."""
    training = TinyTraining(precision=precision, accumulate_batches=2)
    session, reads = Session(folder, training=training, accumulate_batches=2), []
    tensor_class = type(tf.constant(0)).__mro__[1]
    real_numpy = tensor_class._numpy

    def numpy(tensor):
        reads.append(len(session.progress))
        return real_numpy(tensor)

    monkeypatch.setattr(tensor_class, "_numpy", numpy)
    monkeypatch.setattr(loop, "_POLL_SECONDS", 1e6)
    session.train(Position(0, 0), Position(2, 0))
    # The number of steps before the one that ends each epoch.
    assert set(reads) == {BATCHES_PER_EPOCH - 1, 2 * BATCHES_PER_EPOCH - 1}
    for function in (training._compiled_step, training._compiled_accumulate):
        assert function.experimental_get_tracing_count() == 1


class ManyBatches:
    """Replaces a reader of 11,000 batches; measures the memory after 1,000."""

    waited_seconds = reading_seconds = absent_seconds = unattended_seconds = 0.0

    def __init__(self, place):
        self.bytes_in_use = []
        self.place = place

    def __iter__(self):
        images, labels = np.zeros((2, 4, 4, 3), np.float16), np.zeros(2, np.int32)
        for step in range(11_000):
            if step >= 1_000:
                self.bytes_in_use.append(resident_bytes(os.getpid()))
            yield self.place(Batch(step, Position(0, step), images, labels, None))

    def check_preprocessor(self):
        pass


def grow_by_many_steps(folder):
    """Runs the loop with a network that computes nothing; returns the bytes gained."""
    globals()["BATCHES_PER_EPOCH"] = 20_000
    run_files.write_progress = lambda *arguments: None
    session = Session(folder, schedule="cosine", mixup_alpha=0.2)
    session.training._compiled_step = lambda *batch: np.float32(1)
    session.after_step = lambda: False
    batches = ManyBatches(session.place)
    session.train_on(batches, Position(0, 0))
    return batches.bytes_in_use[-1] - batches.bytes_in_use[0]


def test_the_numbers_of_a_step_leave_no_memory_behind(folder):
    """As Python numbers, two new ones in each of 10,000 steps would take 16 MB.

    In a process of its own: what other tests leave to be freed would hide or feign a
    leak. tests/soak.py is the long form of this test.
    """
    assert in_own_process(grow_by_many_steps, folder) < 6e6


def fail_once(monkeypatch, module, name, error):
    """Makes the first call of a function fail; returns a list of all calls."""
    real, calls = getattr(module, name), []

    def function(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 1:
            raise error
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, name, function)
    return calls


def test_a_checkpoint_that_cannot_be_saved_is_tried_again(folder, monkeypatch):
    monkeypatch.setattr(run_files, "_RETRY_SECONDS", 0.0)
    error = SaveError("run/0: No space left on device")
    calls = fail_once(monkeypatch, checkpoint, "save", error)
    session = Session(folder)
    assert session.train(Position(0, 0), Position(2, 0)) == (2, 0)
    # The end of epoch 0 has passed; the state one step later is saved instead.
    assert [tuple(call[2]) for call in calls] == [(1, 0), (1, 1), (2, 0)]
    assert session.checkpoints == ["1"]
    told = [line for line in session.lines if "a checkpoint" in line]
    assert told == [
        f"saving a checkpoint failed, trying again later: {error}",
        "saving a checkpoint works again",
    ]


def test_a_row_of_metrics_that_cannot_be_written_is_written_later(folder, monkeypatch):
    fail_once(monkeypatch, run_files, "record_epoch", OSError("full"))
    session = Session(folder)
    assert session.train(Position(0, 0), Position(2, 0)) == (2, 0)
    rows = read_table(session.run_folder / METRICS_FILE)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [line for line in session.lines if "writing" in line] == [
        "writing metrics.csv failed, trying again later: full",
        "writing metrics.csv works again",
    ]


def test_the_last_checkpoint_is_tried_until_it_is_there(folder, monkeypatch):
    monkeypatch.setattr(run_files, "_RETRY_SECONDS", 0.0)
    calls = fail_once(monkeypatch, checkpoint, "save", SaveError("full"))
    session = Session(folder)
    assert session.train(Position(1, 2), Position(2, 0)) == (2, 0)
    assert len(calls) == 2
    assert session.checkpoints == ["1"]


def test_a_host_that_is_not_the_chief_writes_nothing_but_polls(folder, monkeypatch):
    """It polls even after the time at which the chief saves a checkpoint."""
    monkeypatch.setattr(loop, "_POLL_SECONDS", 0.0)
    now = itertools.chain([0.0], itertools.repeat(60.0))
    clock = types.SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr(run_files, "time", clock)
    session = Session(folder, minutes=0.5)
    session.run_settings = {"cluster": Cluster(("host0:1", "host1:1"), 1)}
    session.after_step = lambda: False
    assert session.train(Position(0, 0), Position(2, 0)) == (2, 0)
    assert session.checkpoints == []
    assert not any(line.startswith("epoch") for line in session.lines)
    assert not (folder / "buffer" / FILE_NAME).exists()
    positions = [tuple(status.position) for status in session.observer.statuses]
    assert positions == [(0, 2), (1, 1), (1, 2)]


def test_a_host_with_local_folders_writes_what_the_chief_does(folder, monkeypatch):
    """Its batches are halves, but the speed is that of the whole training."""
    monkeypatch.setattr(loop, "_POLL_SECONDS", 0.0)
    session = Session(folder)
    session.run_settings = {"cluster": Cluster(("host0:1", "host1:1"), 1, True)}
    assert session.train(Position(0, 0), Position(2, 0)) == (2, 0)
    assert session.checkpoints == ["0", "1"]
    assert [line[:8] for line in session.lines if line.startswith("epoch")] == [
        "epoch 0:",
        "epoch 0:",
        "epoch 1:",
        "epoch 1:",
    ]
    assert read_position(folder / "buffer") == (2, 0)
    last = session.observer.statuses[-1]
    assert (last.position, last.speed.num_images) == ((1, 2), 2 * 2 * SPEC.batch_size)


def test_a_stop_on_a_full_disk_waits_for_room_or_the_second_ctrl_c(folder, monkeypatch):
    monkeypatch.setattr(run_files, "_END_RETRY_SECONDS", 0.0)
    tries = []

    def fail(*arguments):
        tries.append(arguments)
        if len(tries) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        raise SaveError("full")

    monkeypatch.setattr(checkpoint, "save", fail)
    session = Session(folder)
    stop = StopRequest()
    session.after_step = lambda: os.kill(os.getpid(), signal.SIGTERM) or True
    with stop.caught(), pytest.raises(KeyboardInterrupt):
        session.train(Position(0, 0), Position(2, 0))
    assert len(tries) == 3
    (line,) = [line for line in session.lines if "free some room" in line]
    assert "free some room, or mount its disk; what was trained since" in line
    assert "since epoch 0, batch 0 is lost otherwise" in line


def test_after_the_last_step_the_first_ctrl_c_ends_the_wait_for_room(
    folder, monkeypatch
):
    monkeypatch.setattr(run_files, "_END_RETRY_SECONDS", 0.0)
    tries = []

    def fail(*arguments):
        tries.append(arguments)
        assert len(tries) < 5, "the wait does not end"
        if len(tries) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        raise SaveError("full")

    monkeypatch.setattr(checkpoint, "save", fail)
    with StopRequest().caught(), pytest.raises(KeyboardInterrupt):
        Session(folder).train(Position(1, 0), Position(2, 0))


def test_weights_that_the_last_step_has_destroyed_are_not_saved(folder):
    class Exploding(TinyTraining):
        """In the last step of an epoch the loss is finite; the new weights are not."""

        def step(self, *batch_and_numbers):
            loss = super().step(*batch_and_numbers)
            if int(self.totals.num_batches) == BATCHES_PER_EPOCH:
                self.optimizer.velocities[0].assign_add(np.full((3, 3), np.inf, "f4"))
            return loss

    session = Session(folder, training=Exploding())
    with pytest.raises(LossError, match=r"epoch 0, batch 2 .*weights are not"):
        session.train(Position(0, 0), Position(2, 0))
    assert session.checkpoints == []


def test_without_the_folder_only_the_number_of_batches_is_missing(folder, monkeypatch):
    def fail(buffer):
        raise FileNotFoundError

    session = Session(folder)
    monkeypatch.setattr(loop, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(BatchBuffer, "ready", fail)
    assert session.train(Position(0, 0), Position(1, 0)) == (1, 0)
    numbers = [status.num_ready for status in session.observer.statuses]
    assert numbers and not any(numbers)


def test_the_buffer_is_counted_while_the_device_works(folder, monkeypatch):
    """Listing many batches takes time, and reading the losses waits for the device."""
    done = []
    check, ready = Loop._check_losses, BatchBuffer.ready

    def noted_check(loop):
        done.append("losses")
        check(loop)

    def noted_ready(buffer):
        done.append("buffer")
        return ready(buffer)

    session = Session(folder)
    monkeypatch.setattr(loop, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(Loop, "_check_losses", noted_check)
    monkeypatch.setattr(BatchBuffer, "ready", noted_ready)
    session.train(Position(0, 0), Position(1, 0))
    assert done[:2] == ["buffer", "losses"]


def test_training_continues_where_progress_cannot_be_written(folder, monkeypatch):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fail_once(monkeypatch, run_files, "write_progress", error)
    session = Session(folder)
    session.after_step = lambda: False
    session.train(Position(0, 0), Position(1, 0))
    assert (folder / "buffer" / FILE_NAME).read_text() == "1\n0\n"
    assert "writing the progress works again" in session.lines


def test_progress_in_a_folder_that_is_missing_is_left_to_the_reader(
    folder, monkeypatch
):
    fail_once(monkeypatch, run_files, "write_progress", FileNotFoundError("no folder"))
    session = Session(folder)
    session.after_step = lambda: False
    session.train(Position(0, 0), Position(1, 0))
    assert not any("progress" in line for line in session.lines)


@pytest.fixture
def session_in_a_run(folder):
    """A session that holds its run's lock, on a disk that can be unmounted."""
    session = Session(folder)
    session.run_folder = folder / "disk" / "run"
    session.run_folder.mkdir(parents=True)
    with locks.exclusive_role(session.run_folder, locks.TRAINER) as role:
        session.run_settings = {"role": role}
        yield session


def do_after_first_step(session, action):
    after_step, actions = session.after_step, [action]

    def act():
        if actions:
            actions.pop()()
        return after_step()

    session.after_step = act


def test_a_checkpoint_is_saved_though_older_ones_cannot_be_deleted(folder, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def wait(seconds):
        raise AssertionError("the last checkpoint is saved again")

    monkeypatch.setattr(checkpoint_folders, "delete_checkpoint", fail)
    monkeypatch.setattr(run_files.time, "sleep", wait)
    session = Session(folder, minutes=1e-9)
    assert session.train(Position(0, 0), Position(1, 0)) == (1, 0)
    assert session.checkpoints == ["0_00001", "0_00002", "0"]
    assert (
        "deleting old checkpoints failed, trying again later: "
        + str(OSError(errno.EIO, os.strerror(errno.EIO)))
        in session.lines
    )
    assert not any("saving a checkpoint" in line for line in session.lines)


def test_a_run_folder_that_is_deleted_is_made_again(session_in_a_run):
    session = session_in_a_run
    do_after_first_step(session, lambda: shutil.rmtree(session.run_folder))
    assert session.train(Position(0, 0), Position(2, 0)) == (2, 0)
    assert session.checkpoints == ["0", "1"]
    assert len(read_table(session.run_folder / METRICS_FILE)) == 2
    assert locks.is_alive(session.run_folder, locks.TRAINER)
    assert session.lines.count(f"{session.run_folder}: was deleted; created again") == 1
    assert not any("failed" in line for line in session.lines)


def test_a_run_folder_is_not_made_if_its_disk_is_missing(session_in_a_run, monkeypatch):
    """The training continues and waits for the disk at its end."""
    session, disk = session_in_a_run, session_in_a_run.run_folder.parent
    unmounted = disk.with_name("unmounted")

    def mount(seconds):
        assert not disk.exists()
        unmounted.rename(disk)

    monkeypatch.setattr(run_files.time, "sleep", mount)
    do_after_first_step(session, lambda: disk.rename(unmounted))
    assert session.train(Position(0, 0), Position(1, 0)) == (1, 0)
    assert session.checkpoints == ["0"]
    assert (
        f"saving a checkpoint failed, trying again later: {session.run_folder}: is "
        "missing, and so is the folder above it (is its disk mounted?)"
    ) in session.lines


def test_a_second_trainer_in_a_new_run_folder_ends_the_first(session_in_a_run):
    session, others = session_in_a_run, []

    def replace():
        session.run_settings["role"].path.unlink()
        others.append(locks.Role(session.run_folder, locks.TRAINER))

    do_after_first_step(session, replace)
    with pytest.raises(locks.AlreadyRunningError):
        session.train(Position(0, 0), Position(2, 0))
    assert session.checkpoints == []
    others[0].close()


def test_old_checkpoints_go_but_the_best_stays(folder):
    session = Session(folder)
    for epoch in range(5):
        checkpoint.save(
            session.training, session.run_folder, Position(epoch + 1, 0), DESCRIPTION
        )
        for crops, top1 in ((1, 0.5 - 0.01 * abs(epoch - 1)), (10, 0.1 * epoch)):
            row = {"epoch": epoch, "crops": crops, "top1": top1}
            record_evaluation(session.run_folder / EVALUATION_FILE, row)
        prune(session.run_folder, 2)
    assert session.checkpoints == ["1", "3", "4"]
    prune(session.run_folder, 0)  # Keeps all.
    assert session.checkpoints == ["1", "3", "4"]


def test_learning_rates_follow_the_epochs_of_config_txt():
    config = SETTINGS
    for key, value in {"warmup_epochs": 2, "schedule": "step"}.items():
        config = override(config, "train", key, value, flag=key)
    numbers = PerStepNumbers(config.train, config.batch_renorm, batches_per_epoch=10)
    base = config.train.learning_rate
    assert numbers.learning_rate(0) == pytest.approx(base / 21)
    assert numbers.learning_rate(20) == base
    assert numbers.learning_rate(299) == base
    assert numbers.learning_rate(300) == pytest.approx(base / 10)
    assert numbers.at(20) == (base, 1, 0, *Mix())


@pytest.mark.parametrize("alphas", [(0, 0), (0.2, 0), (0, 1.0), (0.2, 1.0)])
def test_only_mixup_and_cutmix_have_a_draw_for_each_step(alphas):
    keys = dict(zip(("mixup_alpha", "cutmix_alpha"), alphas))
    train = dataclasses.replace(SETTINGS.train, **keys)
    numbers = PerStepNumbers(train, SETTINGS.batch_renorm, 10)
    expected = mix_at(3, seed=train.seed, **keys) if any(alphas) else Mix()
    assert numbers.at(3).mix == expected
