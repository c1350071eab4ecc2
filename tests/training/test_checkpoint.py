"""Proves that a checkpoint holds everything, is whole or not there, and is checked."""

import builtins
import errno
import io
import json
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from resnet50.handoff.progress import Position
from resnet50.reports.tables import BEST, EVALUATION_FILE, read_table, write_table
from resnet50.training import checkpoint, checkpoint_folders, description, resume
from resnet50.training.checkpoint import SaveError
from resnet50.training.checkpoint_folders import list_checkpoints
from resnet50.training.description import RULES, CheckpointError
from resnet50.training.resume import choose_checkpoint
from resnet50.training.update.schedules import StepNumbers
from tests import recorded_disk
from tests.settings import SETTINGS
from tests.training.tiny import TinyNetwork, TinyTraining

DESCRIPTION = {"num_classes": 3, "variant": "v1.5", "seed": 0, "batches_per_epoch": 7}


def train_a_step(training):
    training.step(
        np.full((2, 4, 4, 3), 0.5, np.float16),
        np.array([0, 1], np.int32),
        None,
        StepNumbers(0.1),
    )


def values(training):
    return [variable.numpy() for variable in training.variables]


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def found(run_folder):
    return [(c.path.name, tuple(c.position)) for c in list_checkpoints(run_folder)]


def test_everything_is_restored(tmp_path):
    training = TinyTraining(seed=1)
    train_a_step(training)
    assert any(velocity.numpy().any() for velocity in training.optimizer.velocities)
    checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)

    other = TinyTraining(seed=2)
    (newest,) = list_checkpoints(tmp_path)
    checkpoint.load(other, newest, DESCRIPTION)
    assert_equal(values(training), values(other))
    train_a_step(training)
    train_a_step(other)
    assert_equal(values(training), values(other))


def test_the_average_of_the_weights_is_restored(tmp_path):
    training = TinyTraining(seed=1, weight_average_decay=0.9)
    train_a_step(training)
    checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)
    other = TinyTraining(seed=2, weight_average_decay=0.9)
    (newest,) = list_checkpoints(tmp_path)
    checkpoint.load(other, newest, DESCRIPTION)
    assert int(other.average.num_updates) == 1
    for each in (training, other):
        train_a_step(each)
    assert_equal(values(training), values(other))


@pytest.mark.parametrize(
    ("saved", "here", "expected"),
    [
        (0.0, 0.9, "holds no average of the weights .set .* to 0, or use another"),
        (0.9, 0.0, "holds an average of the weights .set .* above 0, or use another"),
    ],
)
def test_an_average_is_neither_lost_nor_invented(tmp_path, saved, here, expected):
    training = TinyTraining(weight_average_decay=saved)
    checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)
    (newest,) = list_checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=expected):
        checkpoint.load(TinyTraining(weight_average_decay=here), newest, DESCRIPTION)


def test_evaluation_takes_the_average_where_there_is_one(tmp_path):
    training = TinyTraining(weight_average_decay=0.9)
    train_a_step(training)
    paths = [
        checkpoint.save(each, tmp_path, Position(epoch, 0), DESCRIPTION)
        for epoch, each in ((1, training), (2, TinyTraining(seed=1)))
    ]
    description = {"num_classes": 3}

    def load(path, weights):
        model = TinyNetwork(seed=5)
        kind = checkpoint.load_model(model, path, description, weights=weights)
        return kind, model.kernel.numpy()

    averaged, trained = training.average.model.kernel, training.model.kernel
    assert (averaged.numpy() != trained.numpy()).any()
    for weights, kind, expected in (
        (None, "averaged", averaged),
        ("averaged", "averaged", averaged),
        ("trained", "trained", trained),
    ):
        found, kernel = load(paths[0], weights)
        assert found == kind
        np.testing.assert_array_equal(kernel, expected.numpy())
    assert load(paths[1], None)[0] == "trained"
    with pytest.raises(CheckpointError, match="1: holds no average of the weights"):
        load(paths[1], "averaged")


def test_names_and_order(tmp_path):
    training = TinyTraining()
    for position in ((1, 0), (1, 3), (2, 0), (10, 0), (10, 2), (10, 5)):
        checkpoint.save(training, tmp_path, Position(*position), DESCRIPTION)
    checkpoint_folders.prune(tmp_path, keep_checkpoints=0)
    # Checkpoints inside an epoch are deleted once there is a later one.
    assert found(tmp_path) == [
        ("0", (1, 0)),
        ("1", (2, 0)),
        ("9", (10, 0)),
        ("10_00005", (10, 5)),
    ]


@pytest.mark.parametrize("failing", ["fsync", "write"])
def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(
    tmp_path, monkeypatch, failing
):
    training = TinyTraining()
    checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)
    before = sorted(tmp_path.iterdir())

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(tf.train.Checkpoint, "write", fail)
    with pytest.raises(SaveError, match="No space left"):
        checkpoint.save(training, tmp_path, Position(2, 0), DESCRIPTION)
    assert sorted(tmp_path.iterdir()) == before


def test_a_checkpoint_whose_name_is_not_durable_exists_and_is_saved_again(
    tmp_path, monkeypatch
):
    """The last step fails: the flush of the run's folder."""
    training, flush = TinyTraining(), checkpoint.fsync
    checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)

    def fail(path):
        if path == tmp_path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(path)

    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(SaveError):
            patched.setattr(checkpoint, "fsync", fail)
            checkpoint.save(training, tmp_path, Position(2, 0), DESCRIPTION)
        assert [name for name, _ in found(tmp_path)] == ["0", "1"]
        checkpoint.read_description(tmp_path / "1")
    checkpoint.save(training, tmp_path, Position(2, 0), DESCRIPTION)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_saving_a_position_again_keeps_its_checkpoint(tmp_path, monkeypatch):
    training = TinyTraining()
    path = checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)
    before = (path / "state.json").stat()
    calls = recorded_disk.record(monkeypatch)
    checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)
    assert calls == [("flush", tmp_path.name)]
    assert (path / "state.json").stat() == before
    (path / "state.json").write_text("{")
    checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)
    checkpoint.read_description(path)


def test_a_checkpoint_is_on_the_disk_before_its_name_and_its_name_at_the_end(
    tmp_path, monkeypatch
):
    calls = recorded_disk.record(monkeypatch)
    run = tmp_path / "run"
    path = checkpoint.save(TinyTraining(), run, Position(1, 0), DESCRIPTION)
    named = calls.index(("name", path.name))
    flushed = {name for call, name in calls[:named] if call == "flush"}
    assert {file.name for file in path.iterdir()} <= flushed
    assert tmp_path.name in flushed  # which holds the new run's name
    assert calls[-1] == ("flush", "run")


def test_a_deleted_checkpoint_loses_its_name_before_its_files(tmp_path, monkeypatch):
    path = checkpoint.save(TinyTraining(), tmp_path, Position(1, 0), DESCRIPTION)
    calls = recorded_disk.record(monkeypatch)
    checkpoint_folders.delete_checkpoint(path)
    renamed, flushed, *rest = calls
    assert renamed[0] == "name" and flushed == ("flush", tmp_path.name)
    assert all(call == "delete" for call, _ in rest)


def test_a_checkpoint_that_was_set_aside_does_not_come_back(tmp_path, monkeypatch):
    checkpoint.save(TinyTraining(), tmp_path, Position(1, 0), DESCRIPTION)
    calls = recorded_disk.record(monkeypatch)
    checkpoint_folders.set_aside(tmp_path, Position(0, 0), [].append)
    assert calls == [
        ("name", "0"),
        ("flush", "superseded-1"),
        ("flush", tmp_path.name),
    ]


def test_what_a_killed_trainer_left_is_no_checkpoint_and_is_deleted(tmp_path):
    training = TinyTraining()
    checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)
    (tmp_path / "0").rename(tmp_path / ".writing-0123")
    assert found(tmp_path) == []
    checkpoint_folders.remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_training_starts_though_what_is_left_cannot_be_deleted(tmp_path, monkeypatch):
    left = tmp_path / ".writing-0123"
    left.mkdir()
    (left / "variables.index").touch()

    def fail(*arguments, **settings):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "unlink", fail)
    assert restore(tmp_path, 0) == ((0, 0), [])
    assert left.exists()


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(TinyTraining(), tmp_path, Position(1, 0), DESCRIPTION)
    return list_checkpoints(tmp_path)[0]


def test_a_flipped_bit_is_found(saved):
    data = saved.path / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"0: is damaged: variables\.data.*checksum"
    ):
        checkpoint.load(TinyTraining(), saved, DESCRIPTION)


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_a_torn_file_is_found(saved, name):
    os.truncate(saved.path / name, (saved.path / name).stat().st_size // 2)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(TinyTraining(), saved, DESCRIPTION)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"epoch": null, "batch": 0}', "[" * 100_000],
)
def test_a_damaged_state_is_found(saved, content):
    (saved.path / "state.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"0: is damaged: "):
        checkpoint.load(TinyTraining(), saved, DESCRIPTION)


@pytest.mark.parametrize("name", ["state.json", "variables.index"])
def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(
    saved, monkeypatch, name
):
    """Else --resume would set it aside and train again what it holds."""
    real_open = io.open

    def fail(path, *arguments, **keywords):
        if Path(path).name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real_open(path, *arguments, **keywords)

    for module in (io, builtins):
        monkeypatch.setattr(module, "open", fail)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(TinyTraining(), saved, DESCRIPTION)
    assert str(caught.value) == (
        f"{saved.path / name}: cannot be read: Input/output error (try again; if it "
        f"stays so, move {saved.path} away, and --resume takes the one before)"
    )
    with pytest.raises(CheckpointError, match="cannot be read"):
        restore(saved.path.parent, None)
    assert not list(saved.path.parent.glob("superseded-*"))


def test_a_disk_that_fails_under_tensorflow_is_named_without_its_internals(
    tmp_path, monkeypatch
):
    def fail(*arguments):
        message = "{{function_node SaveV2_device_/CPU:0}} a/b; disk full [Op:SaveV2]"
        raise tf.errors.UnknownError(None, None, message)

    monkeypatch.setattr("tensorflow.train.Checkpoint.write", fail)
    with pytest.raises(SaveError) as caught:
        checkpoint.save(TinyTraining(), tmp_path, Position(1, 0), DESCRIPTION)
    assert str(caught.value) == f"{tmp_path / '0'}: a/b; disk full"


@pytest.mark.parametrize("name", ["list_variables", "Checkpoint.read"])
def test_an_error_of_tensorflow_while_reading_is_one_line(saved, monkeypatch, name):
    def fail(*arguments):
        raise tf.errors.UnknownError(None, None, "variables.data; Input/output error")

    monkeypatch.setattr(f"tensorflow.train.{name}", fail)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(TinyTraining(), saved, DESCRIPTION)
    assert str(caught.value).startswith(
        f"{saved.path}: cannot be read: variables.data; Input/output error (try again;"
    )


@pytest.mark.parametrize(
    ("key", "value"), [("num_classes", 4), ("variant", "v1"), ("seed", 5)]
)
def test_another_training_is_refused_with_both_values(saved, key, value):
    expected = f"{key} = {DESCRIPTION[key]}, here it is {value}"
    with pytest.raises(CheckpointError, match=expected):
        checkpoint.load(TinyTraining(), saved, {**DESCRIPTION, key: value})


def test_another_batch_size_is_allowed_between_epochs_only(tmp_path):
    other = {**DESCRIPTION, "batches_per_epoch": 14}
    checkpoint.save(TinyTraining(), tmp_path, Position(1, 0), DESCRIPTION)
    checkpoint.save(TinyTraining(), tmp_path, Position(1, 3), DESCRIPTION)
    between, inside = list_checkpoints(tmp_path)
    checkpoint.load(TinyTraining(), between, other)
    with pytest.raises(CheckpointError, match="batches_per_epoch = 7, here it is 14"):
        checkpoint.load(TinyTraining(), inside, other)


def test_state_is_readable_by_a_person(saved):
    state = json.loads((saved.path / "state.json").read_text())
    assert (state["epoch"], state["batch"]) == (1, 0)
    assert state["training"] == DESCRIPTION


def restore(run_folder, epoch_start):
    lines = []
    position = resume.restore(
        TinyTraining(),
        run_folder,
        DESCRIPTION,
        epoch_start=epoch_start,
        notify=lines.append,
    )
    return tuple(position), lines


@pytest.fixture
def run_folder(tmp_path):
    """A run with checkpoints after epochs 0, 1 and 2, and inside epoch 3."""
    for position in ((1, 0), (2, 0), (3, 0), (3, 4)):
        checkpoint.save(TinyTraining(), tmp_path, Position(*position), DESCRIPTION)
    return tmp_path


def test_a_new_training_starts_at_the_first_batch(tmp_path):
    assert restore(tmp_path, 0) == ((0, 0), [])


def test_a_new_training_never_overwrites_one(run_folder):
    with pytest.raises(
        CheckpointError, match="already holds a training, up to epoch 3"
    ):
        restore(run_folder, 0)


def test_resume_takes_the_newest(run_folder):
    position, lines = restore(run_folder, None)
    assert position == (3, 4)
    assert len(lines) == 1


def test_resume_without_a_checkpoint_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint to resume from"):
        restore(tmp_path, None)


def test_epoch_start_takes_the_epoch_before_and_deletes_nothing(run_folder):
    position, lines = restore(run_folder, 2)
    assert position == (2, 0)
    assert found(run_folder) == [("0", (1, 0)), ("1", (2, 0))]
    aside = run_folder / "superseded-1"
    assert found(aside) == [("2", (3, 0)), ("3_00004", (3, 4))]
    assert str(aside) in lines[-1]


def evaluated_epochs(folder):
    return [row["epoch"] for row in read_table(folder / EVALUATION_FILE)]


@pytest.mark.parametrize(
    ("epoch_start", "kept", "aside"),
    [(2, ["-1", "0", "1"], ["2", "3"]), (None, ["-1", "0", "1", "2"], ["3"])],
)
def test_evaluations_of_a_superseded_training_go_with_it(
    run_folder, epoch_start, kept, aside
):
    """Otherwise one of them could be the best epoch, or stop the training."""
    rows = [{"epoch": e, "crops": 1, "top1": 0.1} for e in range(-1, 4)]
    write_table(run_folder / EVALUATION_FILE, rows)
    _, lines = restore(run_folder, epoch_start)
    assert evaluated_epochs(run_folder) == kept
    assert evaluated_epochs(run_folder / "superseded-1") == aside
    assert lines[-1] == (
        f"{run_folder / 'superseded-1'}: holds the {len(aside)} later rows of "
        "evaluation.csv now"
    )
    assert len(restore(run_folder, epoch_start)[1]) == 1  # Nothing is left to move.


def test_a_damaged_table_of_evaluations_is_named_and_stays(run_folder):
    (run_folder / EVALUATION_FILE).write_text("epoch\nx\n")
    position, lines = restore(run_folder, 2)
    assert position == (2, 0)
    assert "evaluation.csv, row 1: epoch is 'x'" in lines[1]
    assert (run_folder / EVALUATION_FILE).read_text() == "epoch\nx\n"


def test_a_new_training_has_no_evaluations(tmp_path):
    rows = [{"epoch": e, "crops": 1, "top1": 0.1} for e in range(2)]
    write_table(tmp_path / EVALUATION_FILE, rows)
    assert restore(tmp_path, 0)[0] == (0, 0)
    assert evaluated_epochs(tmp_path) == []
    assert evaluated_epochs(tmp_path / "superseded-1") == ["0", "1"]


def test_best_is_the_checkpoint_of_the_best_epoch(run_folder):
    with pytest.raises(CheckpointError, match="no epoch has been evaluated, so none"):
        choose_checkpoint(run_folder, BEST)
    rows = [{"epoch": e, "crops": 1, "top1": t} for e, t in ((0, 0.1), (1, 0.3))]
    write_table(run_folder / EVALUATION_FILE, rows)
    assert choose_checkpoint(run_folder, BEST) == run_folder / "1"
    assert choose_checkpoint(run_folder, 0) == run_folder / "0"
    assert choose_checkpoint(run_folder, None) == run_folder / "3_00004"


def test_epoch_start_without_its_checkpoint_is_an_error(run_folder):
    with pytest.raises(CheckpointError, match="8: no such checkpoint"):
        restore(run_folder, 9)


def damage(path):
    os.truncate(path / "variables.data-00000-of-00001", 10)


def test_resume_skips_and_names_damaged_checkpoints(run_folder):
    damage(run_folder / "3_00004")
    damage(run_folder / "2")
    position, lines = restore(run_folder, None)
    assert position == (2, 0)
    for line, name in zip(lines, ("3_00004", "2")):
        assert line.startswith(f"{run_folder / name}: is damaged")
        assert line.endswith("; trying the one before it")
    # Nothing is deleted, damaged or not.
    assert found(run_folder / "superseded-1") == [("2", (3, 0)), ("3_00004", (3, 4))]


def test_an_explicit_epoch_is_never_replaced(run_folder):
    damage(run_folder / "1")
    with pytest.raises(CheckpointError, match="1: is damaged"):
        restore(run_folder, 2)
    assert len(found(run_folder)) == 4


def test_resume_with_all_damaged_is_an_error(run_folder):
    for name, _ in found(run_folder):
        damage(run_folder / name)
    with pytest.raises(CheckpointError, match="0: is damaged"):
        restore(run_folder, None)


def test_size_is_that_on_the_disk(saved):
    size = sum(path.stat().st_size for path in saved.path.glob("variables.data*"))
    # TensorFlow's bookkeeping is larger than the variables of the tiny network.
    assert 0 < checkpoint.checkpoint_bytes(TinyTraining()) < size


@pytest.mark.parametrize("is_whole", [True, False])
def test_other_variables_are_one_line(saved, is_whole):
    """Of another version of the program, which described the training alike."""
    training = TinyTraining()
    if is_whole:
        training.added = tf.Variable(0.0)
    else:
        training.model.kernel = tf.Variable(tf.zeros((4, 3)))
    with pytest.raises(CheckpointError, match="0: has other variables") as caught:
        if is_whole:
            checkpoint.load(training, saved, DESCRIPTION)
        else:
            model = training.model
            checkpoint.load_model(model, saved.path, {"num_classes": 3})
    assert "\n" not in str(caught.value)


CLASSES = {"class_names": ["n1", "n2", "n3"], "class_words": ["ant", "bee", "cow"]}


def test_other_classes_are_refused_and_other_words_are_not(tmp_path):
    """The message names the first class that differs."""
    training = TinyTraining()
    path = checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION | CLASSES)
    (newest,) = list_checkpoints(tmp_path)
    assert checkpoint.read_description(path) == DESCRIPTION | CLASSES
    checkpoint.load(training, newest, DESCRIPTION | CLASSES | {"class_words": []})
    model = {"num_classes": 3, "class_names": ["n1", "n2", "n3"]}
    checkpoint.load_model(training.model, path, model)
    model["class_names"] = ["0", "1", "2"]  # Of a list file.
    checkpoint.load_model(training.model, path, model)
    model["class_names"] = ["n1", "n4", "n3"]
    for restore in (
        lambda: checkpoint.load(training, newest, DESCRIPTION | CLASSES | model),
        lambda: checkpoint.load_model(training.model, path, model),
    ):
        with pytest.raises(CheckpointError, match="class 1 is n2, here it is n4"):
            restore()


def test_an_old_checkpoint_without_class_names_loads(tmp_path):
    training = TinyTraining()
    path = checkpoint.save(training, tmp_path, Position(1, 0), DESCRIPTION)
    (newest,) = list_checkpoints(tmp_path)
    checkpoint.load(training, newest, DESCRIPTION | CLASSES)
    checkpoint.load_model(training.model, path, {"num_classes": 3, **CLASSES})


def test_imported_weights_are_before_the_first_batch(tmp_path):
    """Any batch size may start from them; the first checkpoint replaces them."""
    imported = TinyTraining(seed=3)
    path = checkpoint.save(imported, tmp_path, Position(0, 0), {"batches_per_epoch": 5})
    assert path.name == "0_00000"
    (start,) = list_checkpoints(tmp_path)
    assert start == (path, Position(0, 0))
    training = TinyTraining(seed=4)
    checkpoint.load(training, start, {"batches_per_epoch": 7})
    np.testing.assert_array_equal(training.model.kernel, imported.model.kernel)
    checkpoint.save(training, tmp_path, Position(0, 1), {"batches_per_epoch": 7})
    checkpoint_folders.prune(tmp_path, keep_checkpoints=0)
    assert found(tmp_path) == [("0_00001", (0, 1))]


def test_every_key_of_a_description_has_a_rule():
    dataset = mock.Mock(num_classes=3, class_names=(), class_words=(), fingerprint="")
    assert list(description.describe(SETTINGS, dataset)) == list(RULES)
    assert {key for key, rule in RULES.items() if rule.changes_variables} == {
        "precision",
        "accumulate_batches",
        "trainable",
    }


@pytest.mark.parametrize("key", RULES)
@pytest.mark.parametrize("is_inside_epoch", [False, True])
def test_a_rule_says_when_a_key_must_agree(key, is_inside_epoch):
    is_free = key in ("class_words", "tf32", "xla") or (
        not is_inside_epoch
        and key in ("batches_per_epoch", "precision", "accumulate_batches", "trainable")
    )
    theirs, ours = {key: ["a"]}, {key: ["b"]}

    def compare():
        description.require_agreement(
            Path("run/0"), theirs, ours, is_inside_epoch=is_inside_epoch
        )

    if is_free:
        compare()
    else:
        with pytest.raises(CheckpointError, match=r"^run/0: .*\(.*\)$"):
            compare()


def test_a_checkpoint_without_an_optimizer_s_name_is_of_sgd():
    def compare(ours):
        path, ours = Path("run/0"), {"optimizer": ours}
        description.require_agreement(path, {}, ours, is_inside_epoch=False)

    compare("sgd")
    with pytest.raises(CheckpointError, match="optimizer = sgd, here it is lamb"):
        compare("lamb")


@pytest.mark.parametrize("name", ["/dev/zero", "../0/state.json", "pipe", ""])
def test_only_files_of_the_checkpoint_are_read(saved, name):
    """A device never ends, and opening a pipe would block."""
    os.mkfifo(saved.path / "pipe")
    change_state(saved.path, sha256={name: "0" * 64})
    with pytest.raises(checkpoint.DamagedCheckpointError, match="0: is damaged: "):
        checkpoint.read_description(saved.path)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": 5},
        {"class_names": [1, 2, 3]},
        {"class_names": ["a", "b", "c"], "class_words": ["a"]},
    ],
)
def test_names_of_classes_that_are_no_names_are_damage(saved, changes):
    change_state(saved.path, training=DESCRIPTION | changes)
    with pytest.raises(checkpoint.DamagedCheckpointError, match="0: is damaged: "):
        checkpoint.read_description(saved.path)


def change_state(path, **values):
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | values))
