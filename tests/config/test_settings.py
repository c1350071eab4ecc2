"""Proves that config.txt as shipped loads with the designed values.

Every kind of fault in it, or on the command line, becomes one line that names location,
value and remedy.
"""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from resnet50.config.settings import ConfigError
from resnet50.config.toml_file import override, read_config, write_channel_statistics
from tests.processes import ROOT

SHIPPED = ROOT / "config.txt"


@pytest.fixture
def edited(tmp_path):
    """Returns a function that writes config.txt with one line replaced."""

    def edit(old: str, new: str) -> Path:
        text = SHIPPED.read_text()
        assert text.count(f"\n{old}\n") == 1, old
        path = tmp_path / "config.txt"
        path.write_text(text.replace(f"\n{old}\n", f"\n{new}\n"))
        return path

    return edit


def message_of(path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return str(caught.value)


def test_shipped_values_are_the_designed_ones():
    config = read_config(SHIPPED)
    augmentation = config.augmentation
    sides = range(
        augmentation.shorter_side_min,
        augmentation.shorter_side_max + 1,
        augmentation.shorter_side_step,
    )
    assert (sides[0], sides[1], sides[-1], len(sides)) == (256, 263, 480, 33)
    assert augmentation.crop_size == 224
    assert augmentation.flip_probability == 0.5
    assert augmentation.colour_jitter_stddev == 0.1
    assert config.train.buffer_size == 1000
    assert config.train.batch_size == 64
    assert config.train.dtype == "float16"
    assert config.train.momentum == 0.9
    assert config.runtime_preprocessing.sleep_time == 10
    assert config.runtime_preprocessing.refill_below == 0.8
    assert config.model.variant == "v1.5"
    assert config.model.normalization == "batch_norm"
    assert config.dataset.channel_mean == (0.48180, 0.44969, 0.39839)
    assert config.dataset.channel_std == (0.27336, 0.26435, 0.27563)
    assert config.dataset.training_list is None
    assert config.dataset.validation_list is None


def test_sizes_in_the_comments_are_right():
    text = SHIPPED.read_text()
    assert "64 * 224 * 224 * 3 * 2 bytes = 19.3 MB, so 1000 of them are 19.3 GB" in text
    assert round(64 * 224 * 224 * 3 * 2 / 1e6, 1) == 19.3


def test_every_key_has_a_comment():
    """The keys of a group share the comment above it."""
    lines = SHIPPED.read_text().splitlines()
    uncommented = []
    for number, line in enumerate(lines):
        if re.match(r"[a-z_]+ =", line):
            above = number - 1
            while re.match(r"[a-z_]+ =", lines[above]):
                above -= 1
            if not lines[above].startswith("#"):
                uncommented.append(line)
    assert uncommented == []


def test_relative_paths_are_relative_to_the_file(edited, monkeypatch, tmp_path):
    path = edited('training_list = ""', 'training_list = "lists/train.txt"')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for given in (path, Path("..") / "config.txt"):
        config = read_config(given)
        assert config.train.buffer_folder.resolve() == tmp_path / "buffer"
        assert config.dataset.training_images.resolve() == tmp_path / "imagenet/train"
        assert config.dataset.training_list.resolve() == tmp_path / "lists/train.txt"
        assert config.train.buffer_folder.is_absolute()


def test_absolute_and_home_paths_stay(edited, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    old = 'buffer_folder = "buffer"'
    config = read_config(edited(old, 'buffer_folder = "/dev/shm/buffer"'))
    assert config.train.buffer_folder == Path("/dev/shm/buffer")
    config = read_config(edited(old, 'buffer_folder = "~/buffer"'))
    assert config.train.buffer_folder == tmp_path / "buffer"


# The line as shipped, what replaces it, and the message after "config.txt: ".
FAULTS = [
    # Names.
    (
        "buffer_size = 1000",
        "bufer_size = 1000",
        "unknown key [train] bufer_size (did you mean buffer_size?)",
    ),
    (
        "[augmentation]",
        "[augmentations]",
        "unknown section [augmentations] (did you mean augmentation?)",
    ),
    (
        "[dataset]",
        "verbose = true\n[dataset]",
        "unknown key verbose (known: dataset, augmentation, model, batch_renorm, "
        "train, runtime_preprocessing, evaluation)",
    ),
    (
        "refill_below = 0.8",
        "",
        "[runtime_preprocessing] refill_below is missing (add the line refill_below = "
        "...; config.txt as shipped explains it)",
    ),
    # Types.
    (
        "buffer_size = 1000",
        'buffer_size = "1000"',
        '[train] buffer_size = "1000" (must be a whole number)',
    ),
    (
        "buffer_size = 1000",
        "buffer_size = 1000.0",
        "[train] buffer_size = 1000.0 (must be a whole number)",
    ),
    (
        "buffer_size = 1000",
        "buffer_size = true",
        "[train] buffer_size = true (must be a whole number)",
    ),
    (
        "learning_rate = 0.025",
        "learning_rate = false",
        "[train] learning_rate = false (must be a number)",
    ),
    (
        "learning_rate = 0.025",
        'learning_rate = "fast"',
        '[train] learning_rate = "fast" (must be a number)',
    ),
    (
        "deterministic = false",
        "deterministic = 0",
        "[train] deterministic = 0 (must be true or false)",
    ),
    (
        'buffer_folder = "buffer"',
        "buffer_folder = 7",
        "[train] buffer_folder = 7 (must be a path in quotation marks)",
    ),
    (
        'buffer_folder = "buffer"',
        'buffer_folder = ""',
        '[train] buffer_folder = "" (must be the path of a folder)',
    ),
    (
        'buffer_folder = "buffer"',
        'buffer_folder = "s3://me:secret@bucket/buffer"',
        '[train] buffer_folder = "s3://bucket/buffer" (must be a path, not a URL)',
    ),
    (
        "cache_gigabytes = 0.0",
        "cache_gigabytes = 1e300",
        "[dataset] cache_gigabytes = 1e+300 (must be at most 1000000.0)",
    ),
    (
        'dtype = "float16"',
        'dtype = "float64"',
        '[train] dtype = "float64" (must be one of uint8, float16, float32)',
    ),
    (
        'dtype = "float16"',
        "dtype = [16]",
        "[train] dtype = [16] (must be one of uint8, float16, float32)",
    ),
    (
        'precision = "auto"',
        'precision = "float64"',
        '[train] precision = "float64" (must be one of auto, float32, float16, '
        "bfloat16)",
    ),
    (
        'xla = "auto"',
        "xla = 1",
        '[train] xla = 1 (must be true, false or "auto")',
    ),
    (
        'xla = "auto"',
        'xla = "on"',
        '[train] xla = "on" (must be true, false or "auto")',
    ),
    (
        "tf32 = true",
        'tf32 = "auto"',
        '[train] tf32 = "auto" (must be true or false)',
    ),
    # Ranges, at both ends.
    (
        "accumulate_batches = 1",
        "accumulate_batches = 0",
        "[train] accumulate_batches = 0 (must be at least 1)",
    ),
    (
        "buffer_size = 1000",
        "buffer_size = 0",
        "[train] buffer_size = 0 (must be at least 1)",
    ),
    (
        "read_ahead = 4",
        "read_ahead = 1001",
        "[train] read_ahead = 1001 (must be at most 1000)",
    ),
    ("seed = 0", "seed = -1", "[train] seed = -1 (must be at least 0)"),
    (
        "seed = 0",
        "seed = 9223372036854775808",
        "[train] seed = 9223372036854775808 (must be at most 9223372036854775807)",
    ),
    (
        "crop_size = 224",
        "crop_size = 31",
        "[augmentation] crop_size = 31 (must be at least 32)",
    ),
    (
        "flip_probability = 0.5",
        "flip_probability = 1.01",
        "[augmentation] flip_probability = 1.01 (must be at most 1)",
    ),
    (
        "flip_probability = 0.5",
        "flip_probability = -0.01",
        "[augmentation] flip_probability = -0.01 (must be at least 0)",
    ),
    (
        "refill_below = 0.8",
        "refill_below = 0.0",
        "[runtime_preprocessing] refill_below = 0.0 (must be above 0)",
    ),
    (
        "refill_below = 0.8",
        "refill_below = 80",
        "[runtime_preprocessing] refill_below = 80 (must be at most 1)",
    ),
    (
        "sleep_time = 10",
        "sleep_time = 0",
        "[runtime_preprocessing] sleep_time = 0 (must be above 0)",
    ),
    (
        'executor = "processes"',
        'executor = "ray"',
        '[runtime_preprocessing] executor = "ray" (must be one of processes, dask)',
    ),
    (
        'executor = "processes"',
        'executor = "dask"',
        '[runtime_preprocessing] scheduler = "" (must be a dask scheduler\'s address, '
        'such as "tcp://10.0.0.1:8786" if executor is dask)',
    ),
    (
        'scheduler = ""',
        "scheduler = 8786",
        "[runtime_preprocessing] scheduler = 8786 (must be an address in quotation "
        "marks)",
    ),
    *(
        (
            'scheduler = ""',
            f'scheduler = "{address}"',
            f'[runtime_preprocessing] scheduler = "{address}" (must be a dask '
            'scheduler\'s address, such as "tcp://10.0.0.1:8786")',
        )
        for address in (
            "10.0.0.1:8786",
            "tcp:/10.0.0.1:8786",
            "tcp://10.0.0.1",
            "tcp://10.0.0.1:0",
            "tcp://10.0.0.1:65536",
            "tcp://a b:8786",
        )
    ),
    ("momentum = 0.9", "momentum = 1.0", "[train] momentum = 1.0 (must be below 1)"),
    (
        "learning_rate = 0.025",
        "learning_rate = 0",
        "[train] learning_rate = 0 (must be above 0)",
    ),
    (
        "learning_rate = 0.025",
        "learning_rate = nan",
        "[train] learning_rate = nan (must be a finite number)",
    ),
    (
        "learning_rate = 0.025",
        "learning_rate = inf",
        "[train] learning_rate = inf (must be a finite number)",
    ),
    # Lists.
    (
        "channel_mean = [0.48180, 0.44969, 0.39839]",
        "channel_mean = [0.5, 0.5]",
        "[dataset] channel_mean = [0.5, 0.5] (must be three numbers: red, green, blue)",
    ),
    (
        "channel_mean = [0.48180, 0.44969, 0.39839]",
        "channel_mean = 0.5",
        "[dataset] channel_mean = 0.5 (must be three numbers: red, green, blue)",
    ),
    (
        "channel_mean = [0.48180, 0.44969, 0.39839]",
        "channel_mean = [123.7, 116.3, 103.5]",
        "[dataset] channel_mean = [123.7, 116.3, 103.5] (must be at most 1)",
    ),
    (
        "channel_std = [0.27336, 0.26435, 0.27563]",
        "channel_std = [0.3, 0, 0.3]",
        "[dataset] channel_std = [0.3, 0, 0.3] (must be at least 0.001)",
    ),
    (
        "decay_epochs = [30, 60, 80]",
        "decay_epochs = [30, 30]",
        "[train] decay_epochs = [30, 30] (must be positive and ascending)",
    ),
    (
        "decay_epochs = [30, 60, 80]",
        'decay_epochs = ["30"]',
        "[train] decay_epochs = ['30'] (must be a number)",
    ),
    (
        "decay_epochs = [30, 60, 80]",
        "decay_epochs = 30",
        "[train] decay_epochs = 30 (must be a list of numbers)",
    ),
    (
        "crop_size_schedule = []",
        "crop_size_schedule = [0, 160]",
        "[augmentation] crop_size_schedule = [0, 160] (must be a list of pairs, [first "
        "epoch, crop size])",
    ),
    (
        "crop_size_schedule = []",
        "crop_size_schedule = 160",
        "[augmentation] crop_size_schedule = 160 (must be a list of pairs, [first "
        "epoch, crop size])",
    ),
    (
        "crop_size_schedule = []",
        "crop_size_schedule = [[0, 160], [0, 192]]",
        "[augmentation] crop_size_schedule = [[0, 160], [0, 192]] (must have its "
        "epochs in ascending order)",
    ),
    (
        "crop_size_schedule = []",
        "crop_size_schedule = [[0.5, 160]]",
        "[augmentation] crop_size_schedule = [[0.5, 160]] (must be a whole number)",
    ),
    (
        "crop_size_schedule = []",
        "crop_size_schedule = [[0, 31]]",
        "[augmentation] crop_size_schedule = [[0, 31]] (must be at least 32)",
    ),
    (
        'l2_penalty_on = "kernels"',
        'l2_penalty_on = "gamma"',
        '[train] l2_penalty_on = "gamma" (must be one of kernels, all)',
    ),
    (
        "nesterov = false",
        "nesterov = 1",
        "[train] nesterov = 1 (must be true or false)",
    ),
    (
        "mixup_alpha = 0.0",
        "mixup_alpha = 101",
        "[train] mixup_alpha = 101 (must be at most 100)",
    ),
    (
        'crop_method = "shorter_side"',
        'crop_method = "random"',
        '[augmentation] crop_method = "random" (must be one of shorter_side, '
        "random_area, center)",
    ),
    (
        "crop_area = [0.08, 1.0]",
        "crop_area = [1.0, 0.08]",
        "[augmentation] crop_area = [1.0, 0.08] (must have the least number first)",
    ),
    (
        "crop_ratio = [0.75, 1.3333333333333333]",
        "crop_ratio = 0.75",
        "[augmentation] crop_ratio = 0.75 (must be two numbers: the least and the "
        "greatest)",
    ),
    (
        "repeated_augmentation = 1",
        "repeated_augmentation = 0",
        "[augmentation] repeated_augmentation = 0 (must be at least 1)",
    ),
    (
        "cutmix_alpha = 0.0",
        "cutmix_alpha = -1",
        "[train] cutmix_alpha = -1 (must be at least 0)",
    ),
    (
        'loss = "cross_entropy"',
        'loss = "bce"',
        '[train] loss = "bce" (must be one of cross_entropy, binary_cross_entropy)',
    ),
    (
        "target_threshold = 1.0",
        "target_threshold = 1.5",
        "[train] target_threshold = 1.5 (must be at most 1)",
    ),
    (
        'optimizer = "sgd"',
        'optimizer = "adam"',
        '[train] optimizer = "adam" (must be one of sgd, lamb)',
    ),
    (
        'optimizer = "sgd"',
        'optimizer = "lamb"',
        '[train] l2_penalty = 0.0001 (must be 0 if optimizer is "lamb" (use '
        "weight_decay))",
    ),
    (
        "weight_decay = 0.0",
        "weight_decay = 0.02",
        '[train] weight_decay = 0.02 (must be 0 if optimizer is "sgd" (use '
        "l2_penalty))",
    ),
    (
        "weight_average_decay = 0.0",
        "weight_average_decay = 1",
        "[train] weight_average_decay = 1 (must be below 1)",
    ),
    # Values that do not fit together.
    (
        "crop_size_schedule = []",
        "crop_size_schedule = [[0, 160], [9, 256]]",
        "[augmentation] crop_size_schedule = ((0, 160), (9, 256)) (must have no size "
        "above crop_size = 224)",
    ),
    (
        "shorter_side_min = 256",
        "shorter_side_min = 221",
        "[augmentation] shorter_side_min = 221 (must be at least crop_size = 224)",
    ),
    (
        "shorter_side_max = 480",
        "shorter_side_max = 249",
        "[augmentation] shorter_side_max = 249 (must be at least shorter_side_min = "
        "256)",
    ),
    (
        "shorter_side_step = 7",
        "shorter_side_step = 6",
        "[augmentation] shorter_side_step = 6 (must divide 224, which is "
        "shorter_side_max - shorter_side_min)",
    ),
    (
        "shorter_side = 256",
        "shorter_side = 223",
        "[evaluation] shorter_side = 223 (must be at least [augmentation] crop_size = "
        "224)",
    ),
    (
        "warmup_epochs = 5",
        "warmup_epochs = 91",
        "[train] warmup_epochs = 91.0 (must be at most epochs = 90)",
    ),
    (
        "r_end_step = 40000",
        "r_end_step = 5000",
        "[batch_renorm] r_end_step = 5000 (must be above r_start_step = 5000)",
    ),
    (
        "d_end_step = 25000",
        "d_end_step = 5000",
        "[batch_renorm] d_end_step = 5000 (must be above d_start_step = 5000)",
    ),
    # Not TOML.
    (
        "seed = 0",
        "seed = 0\nseed = 1",
        "is not valid TOML: Cannot overwrite a value (at line {line}, column 9)",
    ),
    (
        "seed = 0",
        "seed =",
        "is not valid TOML: Invalid value (at line {line}, column 7)",
    ),
    (
        "seed = 0",
        "seed: 0",
        "is not valid TOML: Expected '=' after a key in a key/value pair "
        "(at line {line}, column 5)",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), FAULTS)
def test_fault_is_one_line_with_location_value_and_remedy(edited, old, new, expected):
    path = edited(old, new)
    line = path.read_text()[: path.read_text().index(f"\n{new}\n")].count("\n") + 2
    line += new.count("\n")
    assert message_of(path) == f"{path}: {expected.replace('{line}', str(line))}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(
            "learning_rate = 0.025", f"learning_rate = 1{'0' * 400}", id="above float"
        ),
        pytest.param(
            "buffer_size = 1000", f"buffer_size = 1{'0' * 5000}", id="5001 digits"
        ),
        pytest.param(
            'training_images = "imagenet/train"',
            'training_images = "~no_such_user_here/train"',
            id="unknown user's home",
        ),
        pytest.param('variant = "v1.5"', 'variant = "v1\\n.5"', id="two-line value"),
    ],
)
def test_odd_value_is_a_one_line_error_too(edited, old, new):
    message = message_of(edited(old, new))
    assert "\n" not in message
    assert "config.txt: " in message


def test_section_of_another_type(edited):
    path = edited("[dataset]", "evaluation = 3\n[dataset]")
    text = path.read_text()
    path.write_text(text[: text.index("[evaluation]")])
    assert message_of(path) == f"{path}: evaluation must be a section, [evaluation]"


def test_missing_section(tmp_path):
    path = tmp_path / "config.txt"
    text = SHIPPED.read_text()
    path.write_text(text[: text.index("[evaluation]")])
    assert message_of(path) == f"{path}: section [evaluation] is missing"


def test_not_utf8(tmp_path):
    path = tmp_path / "config.txt"
    path.write_bytes(b"# caf\xe9\n" + SHIPPED.read_bytes())
    assert message_of(path) == f"{path}: byte 5 is not UTF-8 (save it as UTF-8 text)"


def test_missing_file_and_folder(tmp_path):
    path = tmp_path / "absent.txt"
    remedy = "give it as --config=PATH; `python3 -m resnet50 init` writes one"
    assert message_of(path) == (
        f"{path}: cannot be read: No such file or directory ({remedy})"
    )
    assert message_of(tmp_path) == (
        f"{tmp_path}: cannot be read: Is a directory ({remedy})"
    )


def test_windows_line_ends(tmp_path):
    path = tmp_path / "config.txt"
    path.write_bytes(SHIPPED.read_bytes().replace(b"\n", b"\r\n"))
    assert read_config(path).augmentation == read_config(SHIPPED).augmentation


@pytest.fixture
def layered(tmp_path):
    """Returns a function that writes a file whose base is config.txt, as shipped."""
    (tmp_path / "config.txt").write_bytes(SHIPPED.read_bytes())
    (tmp_path / "mine").mkdir()

    def write(text: str, name: str = "recipe.txt") -> Path:
        path = tmp_path / "mine" / name
        path.write_text(text)
        return path

    return write


def test_missing_keys_come_from_the_base(layered, tmp_path):
    path = layered('base = "../config.txt"\n[train]\nseed = 7\nbuffer_folder = "b"\n')
    config, base = read_config(path), read_config(tmp_path / "config.txt")
    # Each file's paths are relative to its own folder.
    folder = tmp_path / "mine" / "b"
    changed = dataclasses.replace(base.train, seed=7, buffer_folder=folder)
    assert config == dataclasses.replace(base, train=changed)


def test_a_base_may_have_a_base(layered):
    layered('base = "../config.txt"\n[train]\nseed = 7\nmomentum = 0.8\n')
    path = layered('base = "recipe.txt"\n[train]\nseed = 8\n', "other.txt")
    assert read_config(path).train.seed == 8
    assert read_config(path).train.momentum == 0.8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('base = "../none.txt"', "{folder}/none.txt: cannot be read: No such file or "
         "directory (it is the base of {path})"),
        ("base = 3", "{path}: base = 3 (must be a file's path)"),
        ('base = ""', '{path}: base = "" (must be a file\'s path)'),
        ('base = "recipe.txt"', '{path}: base = "recipe.txt" (is a circle)'),
        ('base = "../config.txt"\n[train]\nsed = 1',
         "{path}: unknown key [train] sed (did you mean seed?)"),
        ('base = "../config.txt"\n[train]\nseed = -1',
         "{path}: [train] seed = -1 (must be at least 0)"),
        ('base = "../config.txt"\n[train]\nepochs = 3',
         "{path}: [train] warmup_epochs = 5.0 (must be at most epochs = 3)"),
        ("[train]\nseed = 1", "{path}: section [dataset] is missing"),
    ],
)  # fmt: skip
def test_a_fault_of_a_layer_names_its_file(layered, tmp_path, text, expected):
    path = layered(text)
    assert message_of(path) == expected.format(path=path, folder=tmp_path)


def test_a_fault_of_the_base_names_the_base(layered, tmp_path):
    base = tmp_path / "config.txt"
    base.write_text(base.read_text().replace("\nseed = 0\n", "\n"))
    path = layered('base = "../config.txt"\n')
    assert message_of(path).startswith(f"{base}: [train] seed is missing (add the line")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", "\n[dataset]\nchannel_mean = {}\nchannel_std = {}\n"),
        (
            '\n[dataset]  # Mine.\ntraining_images = "x"\n',
            '\n[dataset]  # Mine.\ntraining_images = "x"\nchannel_mean = {}\n'
            "channel_std = {}\n",
        ),
        (
            "[dataset]\nchannel_std = [9, 9, 9] # Old.\n[model]\n# End.\n",
            "[dataset]\nchannel_std = {1} # Old.\nchannel_mean = {0}\n[model]\n"
            "# End.\n",
        ),
    ],
)
def test_statistics_are_written_into_the_named_file(layered, tmp_path, more, expected):
    """Other files share its base, so that stays as it is."""
    text = '# Of my images.\nbase = "../config.txt"\n[train]\nseed = 7\n'
    path, base = layered(text + more), tmp_path / "config.txt"
    before = base.read_bytes()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    write_channel_statistics(path, mean, std)
    assert base.read_bytes() == before
    assert path.read_text() == text + expected.format(list(mean), list(std))
    dataset = read_config(path).dataset
    assert (dataset.channel_mean, dataset.channel_std) == (mean, std)


def test_override_replaces_one_value_in_a_copy():
    config = read_config(SHIPPED)
    changed = override(config, "train", "batch_size", 32, flag="--batch_size")
    assert changed.train == dataclasses.replace(config.train, batch_size=32)
    assert config.train.batch_size == 64
    assert changed.augmentation is config.augmentation


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("train", "batch_size", 0, "--batch_size = 0 (must be at least 1)"),
        (
            "train",
            "learning_rate",
            float("nan"),
            "--learning_rate = nan (must be a finite number)",
        ),
        (
            "runtime_preprocessing",
            "num_workers",
            1025,
            "--num_workers = 1025 (must be at most 1024)",
        ),
        (
            "train",
            "epochs",
            4,
            "--epochs: [train] warmup_epochs = 5.0 (must be at most epochs = 4)",
        ),
    ],
)
def test_override_is_checked_and_names_the_flag(section, key, value, expected):
    config = read_config(SHIPPED)
    with pytest.raises(ConfigError) as caught:
        override(config, section, key, value, flag=f"--{key}")
    assert str(caught.value) == expected


def test_classes_are_balanced_in_one_way_only():
    config = read_config(SHIPPED)
    config = override(config, "train", "sampling", "balanced", flag="--sampling")
    with pytest.raises(ConfigError) as caught:
        override(config, "train", "class_weights", "balanced", flag="--class_weights")
    assert str(caught.value) == (
        '--class_weights: [train] class_weights = "balanced" (must be "none" with '
        'sampling = "balanced", which makes the classes equal already)'
    )


def test_writing_statistics_changes_two_lines_and_keeps_the_comments(tmp_path):
    path = tmp_path / "config.txt"
    path.write_bytes(SHIPPED.read_bytes())
    write_channel_statistics(path, (0.1, 0.23456789, 1 / 3), (0.5, 0.25, 0.125))
    config = read_config(path)
    assert config.dataset.channel_mean == (0.1, 0.23456789, 1 / 3)
    assert config.dataset.channel_std == (0.5, 0.25, 0.125)
    before, after = SHIPPED.read_text().splitlines(), path.read_text().splitlines()
    assert len(before) == len(after)
    changed = [line for line, other in zip(before, after) if line != other]
    assert [line.split(" = ")[0] for line in changed] == ["channel_mean", "channel_std"]


def test_failing_to_write_statistics_leaves_the_file(edited, monkeypatch):
    path = edited("seed = 0", "seed = 1")
    before = path.read_bytes()

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ConfigError) as caught:
        write_channel_statistics(path, (0.1, 0.2, 0.3), (0.1, 0.2, 0.3))
    assert str(caught.value) == f"{path}: cannot be written: Permission denied"
    assert path.read_bytes() == before


def refused(tmp_path, content):
    path = tmp_path / "config.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_deeply_nested_value_is_refused(tmp_path):
    """Python cannot write such a value as text."""
    deep = b"momentum." + b"a." * 5_000 + b"a = 1"
    content = SHIPPED.read_bytes().replace(b"momentum = 0.9", deep)
    message = refused(tmp_path, content)
    assert "\n" not in message
    assert "[train] momentum = ... (must be a number)" in message or (
        message.startswith("is not valid TOML")
    )


def test_a_pipe_is_no_configuration(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "pipe")
    assert str(caught.value) == (
        f"{tmp_path / 'pipe'}: cannot be read: is not a regular file (give it as "
        "--config=PATH; `python3 -m resnet50 init` writes one)"
    )
    assert refused(tmp_path, b'base = "pipe"') == (
        f"{tmp_path / 'pipe'}: cannot be read: is not a regular file (it is the base "
        f"of {tmp_path / 'config.txt'})"
    )


def test_what_never_ends_is_no_configuration(tmp_path):
    assert refused(tmp_path, b'base = "/dev/zero"') == (
        "/dev/zero: cannot be read: is not a regular file (it is the base of "
        f"{tmp_path / 'config.txt'})"
    )
