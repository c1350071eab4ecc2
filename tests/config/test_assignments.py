"""Proves what --set takes, and that a wrong one is refused in one line."""

import pytest

from resnet50.config.assignments import parse_assignments
from resnet50.config.settings import ConfigError
from resnet50.config.toml_file import read_config
from tests.settings import PROJECT

CONFIG = PROJECT / "config.txt"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.batch_size=32", 32),
        ("train.batch_size = 32", 32),
        ("train.learning_rate=1e-3", 0.001),
        ("train.nesterov=true", True),
        ("train.decay_epochs=[30, 60.5]", [30, 60.5]),
        ('train.dtype="uint8"', "uint8"),
        ("train.dtype=uint8", "uint8"),
        ("train.buffer_folder=/dev/shm/a b", "/dev/shm/a b"),
        ("dataset.training_list=", ""),
        ("dataset.training_list=a=b", "a=b"),
        ("train.seed=1\nbatch_size = 2", "1\nbatch_size = 2"),
    ],
)
def test_a_value_is_toml_or_a_text(text, value):
    ((keys),) = parse_assignments([text]).values()
    assert list(keys.values()) == [value]


def test_values_replace_those_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(
        CONFIG,
        ["train.dtype=uint8", "train.decay_epochs=[1]", "train.buffer_folder=buffer"],
    )
    assert (config.train.dtype, config.train.decay_epochs) == ("uint8", (1,))
    # As the shell would understand it, not relative to config.txt.
    assert config.train.buffer_folder == tmp_path / "buffer"
    assert config.train.batch_size == read_config(CONFIG).train.batch_size


def test_values_that_fit_only_together_are_accepted():
    values = ["train.optimizer=lamb", "train.l2_penalty=0", "train.weight_decay=0.02"]
    assert read_config(CONFIG, values).train.optimizer == "lamb"
    with pytest.raises(ConfigError) as caught:
        read_config(CONFIG, values[:1])
    assert str(caught.value) == (
        f"{CONFIG} with --set: [train] l2_penalty = 0.0001 (must be 0 if optimizer is "
        '"lamb" (use weight_decay))'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--set  (must be SECTION.KEY=VALUE, such as train.batch_size=32)"),
        (
            "train.batch_size",
            "--set train.batch_size (must be SECTION.KEY=VALUE, such as "
            "train.batch_size=32)",
        ),
        (
            "batch_size=32",
            "--set batch_size=32 (must name the section too: train.batch_size or "
            "evaluation.batch_size)",
        ),
        ("trian.seed=1", "--set: unknown section [trian] (did you mean train?)"),
        (
            "train.bufer_size=1",
            "--set: unknown key [train] bufer_size (did you mean buffer_size?)",
        ),
        (
            "train.batch_size=many",
            '--set: [train] batch_size = "many" (must be a whole number)',
        ),
        ("train.seed=-1", "--set: [train] seed = -1 (must be at least 0)"),
        (
            "train.decay_epochs=[1",
            "--set train.decay_epochs=[1: is not valid TOML: Unclosed array (at end of "
            "document)",
        ),
        (
            "train.a.b=1",
            "--set: unknown key [train] a.b (known: "
            + ", ".join(vars(read_config(CONFIG).train))
            + ")",
        ),
        ("train.\x1b=1", None),
        (f"train.seed={'[' * 5000}", None),
        (f"train.seed={'1' * 5000}", None),
    ],
)
def test_a_wrong_one_is_refused_in_one_line(text, message):
    with pytest.raises(ConfigError) as caught:
        read_config(CONFIG, [text])
    line = str(caught.value)
    assert line.isprintable() and len(line) < 1200
    assert message in (None, line)


def test_a_key_that_is_set_twice_is_refused():
    with pytest.raises(ConfigError) as caught:
        parse_assignments(["train.seed=1", "train. seed=2"])
    assert str(caught.value) == (
        "--set train.seed=2: this key is set twice (give it once)"
    )
