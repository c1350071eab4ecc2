"""Proves that the scripts work as a user runs them, as real processes.

The ResNet-50 is the real one, on 32-pixel crops.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time

import pytest
import tensorflow as tf

from resnet50.demo.pictures import PATTERNS, make_images
from resnet50.handoff import locks
from resnet50.handoff.progress import read_progress, to_position
from resnet50.message_log import newest_messages
from resnet50.reports.classes.predictions import read_predictions
from resnet50.reports.starts import STARTS_FILE, read_starts
from resnet50.reports.tables import (
    EVALUATION_FILE,
    METRICS_FILE,
    read_table,
    record_evaluation,
)
from resnet50.training.checkpoint_folders import list_checkpoints
from tests.checkpoints import different_variables, read_variables
from tests.settings import PROJECT, write_small_config

NUM_CLASSES, PER_CLASS, BATCH_SIZE = len(PATTERNS), 2, 4
BATCHES_PER_EPOCH = NUM_CLASSES * PER_CLASS // BATCH_SIZE
SECONDS = 120  # No program here takes a third of this.


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    make_images(folder / "train", PER_CLASS, 1, with_odd_files=True)
    make_images(folder / "val", PER_CLASS, 2, with_odd_files=False)
    return folder


@pytest.fixture
def config(tmp_path, images):
    (tmp_path / "images").symlink_to(images)
    return write_small_config(tmp_path)


def start(*arguments):
    # As in a user's shell: in this process, the project has set the variable.
    hidden = "TF_CPP_MIN_LOG_LEVEL"
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if name != hidden},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, status=0):
    """Waits for a program, checks its exit status, returns what it printed."""
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == status, output
    return output


def finish_early(preprocessor):
    """Ends a preprocessor whose trainer has ended early."""
    preprocessor.send_signal(signal.SIGTERM)
    assert "train.py has gone; it was at" in finish(preprocessor, 130)


def preprocess(config, *flags):
    return start("runtime_preprocessing.py", f"--config={config}", *flags)


def train(config, run, *flags):
    return start("train.py", f"--config={config}", f"--run_folder={run}", *flags)


def read_until(process, text):
    """Reads a program's output up to the line with the text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"no {text!r} in:\n{''.join(lines)}")


def weights(config, run, name):
    """All variables of a checkpoint, by name."""
    variables = read_variables(config.parent / "saved_models" / run / name)
    assert len(variables) > 400  # 53 convolutions, their normalizations and velocities.
    return variables


def assert_equal_weights(first, second):
    assert not different_variables(first, second)


def wait_for_step(config, step, *processes):
    """Waits until the trainer has reached a step."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        try:
            if read_progress(config.parent / "buffer", BATCHES_PER_EPOCH, 99) >= step:
                return
        except Exception:
            pass
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached")


def wait_for_batches(config, number=1):
    """Waits until the buffer holds batches; returns its folder."""
    buffer = config.parent / "buffer"
    deadline = time.monotonic() + SECONDS
    while len(list(buffer.glob("images_*.npy"))) < number:
        assert time.monotonic() < deadline, "no batches were made"
        time.sleep(0.02)
    return buffer


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, images):
    """An undisturbed run of two epochs; the preprocessor is started first."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "images").symlink_to(images)
    config = write_small_config(folder)
    preprocessor = preprocess(config)
    trainer = train(config, "whole")
    output = finish(trainer)
    return config, output, finish(preprocessor)


def test_both_scripts_end_by_themselves_and_report(undisturbed):
    config, trained, preprocessed = undisturbed
    assert "warning: TensorFlow finds no GPU" in trained
    assert "trained up to epoch 2" in trained
    assert "20 images of 10 classes, 5 batches of 4 an epoch" in preprocessed
    assert "unreadable, replaced" in preprocessed
    assert "training up to epoch 2 has finished" in preprocessed
    rows = read_table(config.parent / "saved_models" / "whole" / "metrics.csv")
    assert [row["steps"] for row in rows] == ["5", "10"]
    (start,) = read_starts(config.parent / "saved_models" / "whole" / STARTS_FILE)
    assert start["command"].startswith("train.py --config=")
    assert start["settings"]["train"]["precision"] == "float32"  # config.txt: "auto"
    assert start["device"] == "the CPU"
    assert start["versions"]["TensorFlow"] == tf.__version__
    assert list((config.parent / "buffer").glob("*.npy")) == []


def test_both_scripts_keep_what_they_say(undisturbed):
    """In order, and without their bars; the trainer keeps TensorFlow's lines too."""
    config, trained, preprocessed = undisturbed
    run_folder = config.parent / "saved_models" / "whole"
    for folder, role, output in (
        (config.parent / "buffer", locks.PREPROCESSOR, preprocessed),
        (run_folder, locks.TRAINER, trained),
    ):
        start, *messages = newest_messages(folder / f"{role}.log", 1000)
        assert re.match(rf"starts as process \d+: {role}.py --config=", start.text)
        said = [m.text for m in messages if not m.text.startswith("TensorFlow, as")]
        lines = [
            x for x in output.splitlines() if not re.match(r"(buffer|epoch) .*\|", x)
        ]
        assert "\n".join(said).splitlines() == lines
    assert not re.search("^[IWE]0000 00:00", trained, flags=re.MULTILINE)
    held = messages[0].text.splitlines()
    assert held[0] == "TensorFlow, as it starts:"
    assert any(re.match("[IWE]0000 00:00", line) for line in held)


def test_resuming_at_an_epoch_gives_the_same_weights(undisturbed, config):
    reference = undisturbed[0]
    # Now the trainer is started first, and two preprocessors one after another.
    trainer = train(config, "parts", "--epoch_end=1")
    finish(preprocess(config, "--epoch_end=1"))
    finish(trainer)
    preprocessor = preprocess(config, "--epoch_start=1", "--num_workers=2")
    assert "next is epoch 1, batch 0" in finish(
        train(config, "parts", "--epoch_start=1")
    )
    finish(preprocessor)
    for name in ("0", "1"):
        assert_equal_weights(
            weights(reference, "whole", name), weights(config, "parts", name)
        )


def test_stopping_and_killing_inside_an_epoch_gives_the_same_weights(
    undisturbed, config
):
    """With --resume_or_start, the same command starts and resumes."""
    reference = undisturbed[0]
    preprocessor = preprocess(config)
    trainer = train(config, "parts", "--resume_or_start")
    wait_for_step(config, 2, trainer, preprocessor)
    trainer.send_signal(signal.SIGINT)
    output = finish(trainer, 130)
    assert "--run_folder=parts --resume_or_start --epoch_end=2" in output
    assert list((config.parent / "saved_models" / "parts").glob("0_0000*"))

    preprocessor.kill()
    preprocessor.wait()
    preprocessor.stdout.close()
    trainer = train(config, "parts", "--resume")
    said = read_until(trainer, "runtime_preprocessing.py is not running")
    command = read_until(trainer, "python3 runtime_preprocessing.py")[-1]
    assert f"--config={config} --epoch_start=0 --epoch_end=2 --batch_size=4" in command
    assert not any("Traceback" in line for line in said)
    preprocessor = preprocess(config)
    wait_for_step(config, BATCHES_PER_EPOCH + 1, trainer, preprocessor)
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()

    finish(train(config, "parts", "--resume_or_start"))
    finish(preprocessor)
    for name in ("0", "1"):
        assert_equal_weights(
            weights(reference, "whole", name), weights(config, "parts", name)
        )


def test_a_buffer_folder_deleted_under_both_programs_gives_the_same_weights(
    undisturbed, config
):
    reference = undisturbed[0]
    preprocessor = preprocess(config)
    buffer = wait_for_batches(config, 6)
    # Paused, so that the trainer cannot finish before it sees the missing folder.
    preprocessor.send_signal(signal.SIGSTOP)
    trainer = train(config, "parts")
    wait_for_step(config, 2, trainer, preprocessor)
    shutil.rmtree(buffer.rename(config.parent / "doomed"))
    said = read_until(trainer, f"{buffer}: is missing; waiting for it")
    preprocessor.send_signal(signal.SIGCONT)
    said = "".join(said) + finish(trainer)
    made = finish(preprocessor)
    assert f"{buffer}: is there again" in said
    assert f"{buffer}: was deleted; created again" in made
    wrong = "is not running", "has gone", "trying again", "cannot be made", "Traceback"
    for words in wrong:
        assert words not in said + made
    for name in ("0", "1"):
        assert_equal_weights(
            weights(reference, "whole", name), weights(config, "parts", name)
        )


RECIPE = """
base = "../config.txt"
[augmentation]
crop_size = 40
shorter_side_min = 41
crop_size_schedule = [[0, 32], [1, 40]]
crop_method = "random_area"
trivial_augment = true
erasing_probability = 0.5
repeated_augmentation = 2
[train]
optimizer = "lamb"
l2_penalty = 0.0
weight_decay = 0.02
l2_penalty_on = "all"
loss = "binary_cross_entropy"
target_threshold = 0.2
mixup_alpha = 0.2
cutmix_alpha = 1.0
class_weights = "balanced"
weight_average_decay = 0.9
[evaluation]
shorter_side = 44
"""


def test_a_recipe_laid_over_config_txt(config):
    """The crops grow in the second epoch; all optional steps are on."""
    recipe = config.parent / "recipes" / "mine.txt"
    recipe.parent.mkdir()
    recipe.write_text(RECIPE)
    preprocessor = preprocess(recipe)
    finish(train(recipe, "mine"))
    finish(preprocessor)
    assert any("average/model/" in name for name in weights(config, "mine", "1"))
    flags = (f"--config={recipe}", "--run_folder=mine", "--epoch_start=1")
    output = finish(start("-m", "resnet50", "evaluate", *flags))
    assert "(20 images, 1 crop, averaged weights)" in output


def test_uint8_batches_give_nearly_the_same_loss(undisturbed, tmp_path, images):
    (tmp_path / "images").symlink_to(images)
    config = write_small_config(tmp_path, train={"dtype": "uint8", "epochs": 1})
    preprocessor = preprocess(config)
    finish(train(config, "raw"))
    finish(preprocessor)
    row, *_ = read_table(tmp_path / "saved_models" / "raw" / "metrics.csv")
    reference = undisturbed[0].parent / "saved_models" / "whole" / "metrics.csv"
    # float16 rounds pixels, uint8 does not; five steps amplify the difference.
    assert float(row["loss"]) == pytest.approx(
        float(read_table(reference)[0]["loss"]), rel=0.02
    )


def test_evaluation_of_a_run(undisturbed):
    config = undisturbed[0]
    flags = (f"--config={config}", "--run_folder=whole", "--epoch_start=1")
    output = finish(start("-m", "resnet50", "evaluate", *flags, "--crops=10", "--wait"))
    assert "(20 images, 10 crops, trained weights)" in output
    (row,) = read_table(config.parent / "saved_models" / "whole" / "evaluation.csv")
    assert (row["epoch"], row["crops"], row["num_images"]) == ("1", "10", "20")
    assert 0 <= float(row["top1"]) <= float(row["top5"]) <= 1
    folder = config.parent / "saved_models" / "whole"
    ranks = read_predictions(folder, 1, "").outcomes.ranks
    for column, k in (("top1", 1), ("top5", 5)):
        assert float(row[column]) == (ranks <= k).mean()
    # The command that evaluate recommends, with pictures of what is wrong.
    (command,) = re.findall(r"to see what it confuses: python3 (.+)", output)
    assert finish(start(*command.split())) == f"{folder / 'classes.html'}\n"
    page = (folder / "classes.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == (ranks > 1).sum() > 0


def test_predictions_need_no_training_images(undisturbed, tmp_path, images):
    """As on another machine, with a copy of config.txt and of the run only."""
    runs = undisturbed[0].parent / "saved_models"
    config = write_small_config(tmp_path, train={"saved_models_folder": str(runs)})
    flags = (f"--config={config}", "--run_folder=whole", "--json")
    output = finish(start("-m", "resnet50", "predict", *flags, images / "val"))
    results = [json.loads(line) for line in output.splitlines() if line[0] == "{"]
    assert len(results) == NUM_CLASSES * PER_CLASS
    for result in results:
        assert len(result["top5"]) == 5
        assert {answer["name"] for answer in result["top5"]} <= set(PATTERNS)
        assert 0 < sum(answer["probability"] for answer in result["top5"]) <= 1.00001


def test_channel_statistics_are_written_and_comments_stay(config):
    before = config.read_text()
    output = finish(start("compute_channel_stats.py", f"--config={config}", "--write"))
    assert "1 images could not be read" in output
    after = config.read_text()
    changed = [
        new
        for old, new in zip(before.splitlines(), after.splitlines(), strict=True)
        if old != new
    ]
    assert [line.split(" = ")[0] for line in changed] == ["channel_mean", "channel_std"]
    for line in changed:
        assert line in output


def test_ctrl_c_leaves_a_valid_buffer(config):
    preprocessor = preprocess(config)
    buffer = wait_for_batches(config)
    preprocessor.send_signal(signal.SIGINT)
    output = finish(preprocessor, 130)
    assert output.endswith("stopped\n")
    assert "Traceback" not in output
    names = {path.name for path in buffer.iterdir()}
    images = {name for name in names if name.startswith("images_")}
    assert images
    assert {name.replace("images", "labels") for name in images} <= names
    assert not [name for name in names if name.endswith(".tmp")]


class InTerminal:
    """A program in a new terminal; like nohup's, it may ignore that this closes."""

    def __init__(self, *arguments, ignores_hangup=False):
        def prepare():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if ignores_hangup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        self._terminal, end = os.openpty()
        os.set_blocking(self._terminal, False)
        self._process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=PROJECT,
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
            preexec_fn=prepare,
        )
        os.close(end)

    def poll(self):
        """The exit status, if it has ended; also empties the terminal's output."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._terminal, 2**16)
        return self._process.poll()

    def hang_up(self):
        """Closes the terminal; returns the program's exit status."""
        os.close(self._terminal)
        return self._process.wait(SECONDS)


def test_ctrl_z_and_fg_in_a_shell(config):
    """Ctrl-Z stops the workers too; a stopped program still holds its lock."""
    terminal, end = os.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "-i"],
        cwd=PROJECT,
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(end)

    def read_up_to(text):
        output = b""
        while text not in output:
            assert select.select([terminal], [], [], SECONDS)[0], output
            output += os.read(terminal, 2**16)

    words = [sys.executable, "runtime_preprocessing.py", f"--config={config}"]
    os.write(terminal, f"{shlex.join(words)}\n".encode())
    buffer = wait_for_batches(config)
    os.write(terminal, b"\x1a")
    read_up_to(b"Stopped")
    assert locks.is_alive(buffer, locks.PREPROCESSOR)
    for path in buffer.glob("images_*.npy"):
        path.unlink()
    os.write(terminal, b"fg\n")
    wait_for_batches(config, 6)
    os.write(terminal, b"\x03")
    read_up_to(b"stopped")
    os.close(terminal)
    shell.wait(SECONDS)
    assert not locks.is_alive(buffer, locks.PREPROCESSOR)


def test_a_dropped_connection_saves_and_leaves_a_valid_buffer(config):
    flags = f"--config={config}", "--epoch_end=99"
    preprocessor = InTerminal("runtime_preprocessing.py", *flags)
    trainer = InTerminal("train.py", *flags, "--run_folder=run")
    wait_for_step(config, 2, trainer, preprocessor)
    assert trainer.hang_up() == 130
    assert preprocessor.hang_up() == 130
    newest = list_checkpoints(config.parent / "saved_models" / "run")[-1]
    step = read_progress(config.parent / "buffer", BATCHES_PER_EPOCH, 99)
    assert newest.position == to_position(step, BATCHES_PER_EPOCH)
    assert not list((config.parent / "buffer").glob("*.tmp"))


def test_programs_whose_terminal_is_gone_train_to_the_end(undisturbed, config):
    """Writing fails then; the lines are lost, and nothing else."""
    flag = f"--config={config}"
    preprocessor = InTerminal("runtime_preprocessing.py", flag, ignores_hangup=True)
    trainer = InTerminal("train.py", flag, "--run_folder=run", ignores_hangup=True)
    wait_for_step(config, 1, trainer, preprocessor)
    assert preprocessor.hang_up() == trainer.hang_up() == 0
    assert_equal_weights(
        weights(undisturbed[0], "whole", "1"), weights(config, "run", "1")
    )


def start_in_background(*arguments):
    """Starts a program with nohup in a shell's background; returns its id too."""
    shell = ["sh", "-c", 'nohup "$@" & echo $!; wait $!', "sh", sys.executable]
    process = subprocess.Popen(
        [*shell, *map(str, arguments)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process, int(process.stdout.readline())


def test_in_the_background_only_sigterm_stops(config):
    """The shell makes it ignore SIGINT, and nohup SIGHUP."""
    flags = f"--config={config}", "--epoch_end=99"
    preprocessor, first = start_in_background("runtime_preprocessing.py", *flags)
    trainer, second = start_in_background("train.py", *flags, "--run_folder=run")
    wait_for_step(config, 1, trainer, preprocessor)
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(first, number)
        os.kill(second, number)
    step = read_progress(config.parent / "buffer", BATCHES_PER_EPOCH, 99)
    # More steps than the buffer holds, so both programs go on.
    wait_for_step(config, step + 8, trainer, preprocessor)
    os.kill(second, signal.SIGTERM)
    output = finish(trainer, 130)
    assert "stopped before epoch" in output
    assert output.endswith("stopped by SIGTERM\n")
    os.kill(first, signal.SIGTERM)
    finish(preprocessor, 130)


def test_a_lost_loss_names_the_batch_and_how_to_see_it(undisturbed, config):
    preprocessor = preprocess(config)
    output = finish(train(config, "lost", "--learning_rate=1e20"), status=1)
    finish_early(preprocessor)
    assert "Traceback" not in output
    assert "the loss is nan" in output or "the loss is inf" in output
    lines = output.splitlines()
    first = lines.index("its images:") + 1
    names = lines[first : lines.index("see them with:")]
    assert len(names) == BATCH_SIZE
    words = lines[-1].split()
    assert words[:4] == ["python3", "-m", "resnet50", "preview"]
    picture = config.parent / "batch.png"
    shown = finish(start(*words[1:], f"--output={picture}"))
    assert shown.splitlines()[:BATCH_SIZE] == names
    assert picture.exists()


def test_different_settings_are_refused_with_both_values(undisturbed):
    output = finish(train(undisturbed[0], "other", "--batch_size=5"), status=1)
    assert "batch_size is 4 there and 5 here" in output
    assert "Traceback" not in output


def test_a_second_preprocessor_is_refused_with_the_first_ones_id(config):
    first = preprocess(config)
    wait_for_batches(config)
    output = finish(preprocess(config), status=1)
    assert f"already runs here, process {first.pid}" in output
    first.send_signal(signal.SIGTERM)
    finish(first, 130)


@pytest.mark.parametrize(
    "script", ["runtime_preprocessing.py", "train.py", "compute_channel_stats.py"]
)
def test_bad_settings_end_with_one_line(tmp_path, script):
    flags = ["--run_folder=x"] if script == "train.py" else []
    process = subprocess.run(
        [sys.executable, script, f"--config={tmp_path / 'none.txt'}", *flags],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        f"{tmp_path / 'none.txt'}: cannot be read: No such file or directory "
        "(give it as --config=PATH; `python3 -m resnet50 init` writes one)"
    )


@pytest.mark.parametrize("module", ["tensorflow", "PIL"])
def test_ctrl_c_while_the_modules_load_shows_no_traceback(config, module):
    """A module that never finishes loading replaces the real one."""
    folder = config.parent / "modules"
    folder.mkdir()
    (folder / f"{module}.py").write_text("print('loading', flush=True)\ninput()\n")
    process = subprocess.Popen(
        [sys.executable, "train.py", f"--config={config}", "--run_folder=run"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == -signal.SIGINT
    _, error = process.communicate()
    assert error == ""


def test_an_early_stop_ends_both_programs(tmp_path, images):
    (tmp_path / "images").symlink_to(images)
    config = write_small_config(tmp_path, train={"epochs": 50, "patience": 1})
    preprocessor, trainer = preprocess(config), train(config, "run")
    read_until(trainer, "epoch 0: loss")
    for epoch, top1 in enumerate(("0.5", "0.4")):
        row = {"epoch": epoch, "crops": 1, "top1": top1}
        record_evaluation(tmp_path / "saved_models" / "run" / EVALUATION_FILE, row)
    assert (
        "saved_models/run: stopped early: the top-1 of epoch 0 was not exceeded up to "
        "epoch 1 (to continue, set [train] patience = 1 to more, or to 0, and --resume)"
    ) in finish(trainer)
    finish(preprocessor)
    rows = read_table(tmp_path / "saved_models" / "run" / METRICS_FILE)
    assert 1 <= len(rows) < 50
