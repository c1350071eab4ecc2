"""config.txt (TOML) as frozen dataclasses, one for each section.

Strict: every key must be there, of its type and in its range, and no other. Each field
below carries its own check, so that this module is the one list of all settings;
config.txt, as shipped, explains each of them to its user.

A file may hold only some of the keys and name, as ``base``, the file with the others:
the files of recipes/ are laid over config.txt in this way.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tomli
import tomlkit

from resnet50.errors import UserError
from resnet50.handoff.atomic_io import atomic_file


class ConfigError(UserError):
    """A setting, in config.txt or on the command line, that cannot be used."""


# A check takes the raw TOML value and the folder of config.txt. It returns the value as
# the field's type, or raises ValueError with what would have been right.
Check = Callable[[Any, Path], Any]


def _setting(check: Check, expects: str) -> Any:
    """A field with its check, and what the check accepts, for docs/configuration.md."""
    return dataclasses.field(metadata={"check": check, "expects": expects})


def _span(minimum, maximum=None, *, above=False, below=False) -> str:
    """A range in words, such as "above 0, below 1"."""
    if maximum is None:
        return f"above {minimum:,}" if above else f"{minimum:,} or more"
    if not (above or below):
        return f"{minimum:,} to {maximum:,}"
    start = f"above {minimum:,}" if above else f"{minimum:,}"
    return f"{start} to {'below ' if below else ''}{maximum:,}"


def _in_range(value, minimum, maximum):
    if minimum is not None and value < minimum:
        raise ValueError(f"must be at least {minimum}")
    if maximum is not None and value > maximum:
        raise ValueError(f"must be at most {maximum}")
    return value


def _whole(minimum: int, maximum: int | None = None) -> Any:
    def check(value, folder):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("must be a whole number")
        return _in_range(value, minimum, maximum)

    return _setting(check, f"whole number, {_span(minimum, maximum)}")


def _as_real(value) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("must be a number")
    if isinstance(value, int) and abs(value) > 2**63:
        raise ValueError("must be at most 2**63")
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return float(value)


def _real(
    minimum: float, maximum: float | None = None, *, above=False, below=False
) -> Any:
    def check(value, folder):
        number = _as_real(value)
        if above and number <= minimum:
            raise ValueError(f"must be above {minimum:g}")
        if below and number >= maximum:
            raise ValueError(f"must be below {maximum:g}")
        return _in_range(number, minimum, maximum)

    span = _span(minimum, maximum, above=above, below=below)
    return _setting(check, f"number, {span}")


def _flag() -> Any:
    def check(value, folder):
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    return _setting(check, "true or false")


def _choice(*choices: str) -> Any:
    def check(value, folder):
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return _setting(check, " or ".join(f'"{choice}"' for choice in choices))


def _path(*, optional: bool = False) -> Any:
    def check(value, folder):
        if not isinstance(value, str):
            raise ValueError("must be a path in quotation marks")
        if optional and not value:
            return None
        if not value or "\0" in value:
            raise ValueError("must be the path of a folder")
        try:
            return (folder / Path(value).expanduser()).absolute()
        except RuntimeError:
            raise ValueError("must not start with the ~ of an unknown user") from None

    return _setting(check, 'path, or ""' if optional else "path")


def _per_channel(minimum: float, maximum: float, *, above: bool = False) -> Any:
    inner = _real(minimum, maximum, above=above).metadata["check"]

    def check(value, folder):
        if not isinstance(value, list) or len(value) != 3:
            raise ValueError("must be three numbers: red, green, blue")
        return tuple(inner(number, folder) for number in value)

    span = _span(minimum, maximum, above=above)
    return _setting(check, f"list of three numbers, each {span}")


def _ascending_reals() -> Any:
    def check(value, folder):
        if not isinstance(value, list):
            raise ValueError("must be a list of numbers")
        numbers = tuple(_as_real(number) for number in value)
        if any(later <= earlier for earlier, later in zip((0.0, *numbers), numbers)):
            raise ValueError("must be positive and ascending")
        return numbers

    return _setting(check, "list of numbers above 0, ascending")


def _crop_size_schedule() -> Any:
    first, size = (_whole(m).metadata["check"] for m in (0, 32))

    def check(value, folder):
        pairs = value if isinstance(value, list) else [None]
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise ValueError("must be a list of pairs, [first epoch, crop size]")
        schedule = tuple((first(e, folder), size(s, folder)) for e, s in pairs)
        epochs = [epoch for epoch, _ in schedule]
        if epochs != sorted(set(epochs)):
            raise ValueError("must have its epochs in ascending order")
        return schedule

    return _setting(check, "list of pairs of whole numbers: epoch, and size from 32")


_AN_ADDRESS = 'a dask scheduler\'s address, such as "tcp://10.0.0.1:8786"'


def _scheduler() -> Any:
    def check(value, folder):
        if not isinstance(value, str):
            raise ValueError("must be an address in quotation marks")
        pattern = r"(?:tcp|tls)://(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})"
        match = re.fullmatch(pattern, value, re.ASCII)
        if value and not (match and 0 < int(match[1]) < 65_536):
            raise ValueError(f"must be {_AN_ADDRESS}")
        return value

    return _setting(check, f'"" or {_AN_ADDRESS}')


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """[dataset]: where the images are, and their statistics."""

    training_images: Path = _path()
    training_list: Path | None = _path(optional=True)
    validation_images: Path = _path()
    validation_list: Path | None = _path(optional=True)
    channel_mean: tuple[float, float, float] = _per_channel(0, 1)
    channel_std: tuple[float, float, float] = _per_channel(0, 1, above=True)


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """[augmentation]: the six steps of an image in an epoch."""

    shorter_side_min: int = _whole(1, 10_000)
    shorter_side_max: int = _whole(1, 10_000)
    shorter_side_step: int = _whole(1)
    crop_size: int = _whole(32, 10_000)
    flip_probability: float = _real(0, 1)
    colour_jitter_stddev: float = _real(0, 10)
    crop_size_schedule: tuple[tuple[int, int], ...] = _crop_size_schedule()

    def faults(self):
        """Yields (key, what it must be) for values that do not fit together."""
        if self.shorter_side_min < self.crop_size:
            yield "shorter_side_min", f"must be at least crop_size = {self.crop_size}"
        if self.shorter_side_max < self.shorter_side_min:
            yield (
                "shorter_side_max",
                f"must be at least shorter_side_min = {self.shorter_side_min}",
            )
        if (self.shorter_side_max - self.shorter_side_min) % self.shorter_side_step:
            yield (
                "shorter_side_step",
                f"must divide {self.shorter_side_max - self.shorter_side_min}, "
                "which is shorter_side_max - shorter_side_min",
            )
        if any(size > self.crop_size for _, size in self.crop_size_schedule):
            yield (
                "crop_size_schedule",
                f"must have no size above crop_size = {self.crop_size}",
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """[model]: the network."""

    variant: str = _choice("v1.5", "v1")
    normalization: str = _choice("batch_norm", "batch_renorm")
    moving_average_decay: float = _real(0, 1, above=True, below=True)
    epsilon: float = _real(0, 1, above=True)
    zero_init_last_gamma: bool = _flag()
    synchronized_batch_norm: bool = _flag()


@dataclasses.dataclass(frozen=True)
class BatchRenormConfig:
    """[batch_renorm]: how r_max and d_max are relaxed (Ioffe 2017, section 4)."""

    r_max: float = _real(1)
    r_start_step: int = _whole(0)
    r_end_step: int = _whole(1)
    d_max: float = _real(0)
    d_start_step: int = _whole(0)
    d_end_step: int = _whole(1)

    def faults(self):
        """Yields (key, what it must be) for values that do not fit together."""
        if self.r_end_step <= self.r_start_step:
            yield "r_end_step", f"must be above r_start_step = {self.r_start_step}"
        if self.d_end_step <= self.d_start_step:
            yield "d_end_step", f"must be above d_start_step = {self.d_start_step}"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """[train]: the buffer, the run and the recipe."""

    buffer_folder: Path = _path()
    buffer_size: int = _whole(1)
    dtype: str = _choice("uint8", "float16", "float32")
    sleep_time: float = _real(0, 3600, above=True)
    read_ahead: int = _whole(1, 1000)
    saved_models_folder: Path = _path()
    seed: int = _whole(0, 2**63 - 1)
    deterministic: bool = _flag()
    precision: str = _choice("float32", "float16", "bfloat16")
    xla: bool = _flag()
    checkpoint_minutes: float = _real(0)
    keep_checkpoints: int = _whole(0)
    batch_size: int = _whole(1, 100_000)
    accumulate_batches: int = _whole(1, 100_000)
    epochs: int = _whole(1)
    learning_rate: float = _real(0, above=True)
    schedule: str = _choice("constant", "step", "cosine")
    warmup_epochs: float = _real(0)
    decay_epochs: tuple[float, ...] = _ascending_reals()
    decay_factor: float = _real(0, 1, above=True)
    momentum: float = _real(0, 1, below=True)
    nesterov: bool = _flag()
    l2_penalty: float = _real(0)
    l2_penalty_on: str = _choice("kernels", "all")
    label_smoothing: float = _real(0, 1, below=True)
    mixup_alpha: float = _real(0, 100)
    weight_average_decay: float = _real(0, 1, below=True)

    def faults(self):
        """Yields (key, what it must be) for values that do not fit together."""
        if self.warmup_epochs > self.epochs:
            yield "warmup_epochs", f"must be at most epochs = {self.epochs}"


@dataclasses.dataclass(frozen=True)
class RuntimePreprocessingConfig:
    """[runtime_preprocessing]: the process that fills the buffer."""

    num_workers: int = _whole(1, 1024)
    sleep_time: float = _real(0, 3600, above=True)
    refill_below: float = _real(0, 1, above=True)
    executor: str = _choice("processes", "dask")
    scheduler: str = _scheduler()

    def faults(self):
        """Yields (key, what it must be) for values that do not fit together."""
        if self.executor == "dask" and not self.scheduler:
            yield "scheduler", f"must be {_AN_ADDRESS} if executor is dask"


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """[evaluation]: accuracy on the validation images."""

    shorter_side: int = _whole(1, 10_000)
    batch_size: int = _whole(1, 100_000)
    num_workers: int = _whole(1, 1024)


@dataclasses.dataclass(frozen=True)
class Config:
    """All of config.txt."""

    dataset: DatasetConfig
    augmentation: AugmentationConfig
    model: ModelConfig
    batch_renorm: BatchRenormConfig
    train: TrainConfig
    runtime_preprocessing: RuntimePreprocessingConfig
    evaluation: EvaluationConfig

    def faults(self):
        """Yields (section, key, what it must be) where values do not fit together."""
        for section in dataclasses.fields(self):
            values = getattr(self, section.name)
            if hasattr(values, "faults"):
                for key, expected in values.faults():
                    yield section.name, key, expected
        if self.evaluation.shorter_side < self.augmentation.crop_size:
            yield (
                "evaluation",
                "shorter_side",
                "must be at least [augmentation] crop_size = "
                f"{self.augmentation.crop_size}",
            )


SECTIONS = {field.name: field.type for field in dataclasses.fields(Config)}


def _did_you_mean(name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _one_line(text: str) -> str:
    """The text with everything that moves a terminal's cursor as an escape."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _shown(value) -> str:
    """A value as a user wrote it in TOML, shortened."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else None
    text = text or (f'"{value}"' if isinstance(value, str | Path) else str(value))
    text = _one_line(text)
    return text if len(text) <= 80 else text[:77] + "..."


class _Layer(NamedTuple):
    """One of the files that a configuration is made of."""

    path: Path
    sections: dict

    def has(self, section: str, key: str) -> bool:
        return key in self.sections.get(section, {})


def _read_toml(path: Path, remedy: str) -> dict:
    try:
        return tomli.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror} ({remedy})"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.start} is not UTF-8 (save it as UTF-8 text)"
        ) from None
    # ValueError: of which TOMLDecodeError is one, and another is a number of more than
    # 4,300 digits.
    except (ValueError, RecursionError) as error:
        reason = _one_line(str(error))
        raise ConfigError(f"{path}: is not valid TOML: {reason}") from None


def _require_known_names(path: Path, sections: dict) -> None:
    for name, values in sections.items():
        if name not in SECTIONS:
            hint = _did_you_mean(name, SECTIONS)
            shown = _one_line(name)
            kind = f"section [{shown}]" if isinstance(values, dict) else f"key {shown}"
            raise ConfigError(f"{path}: unknown {kind} ({hint})")
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {name} must be a section, [{name}]")
        fields = [field.name for field in dataclasses.fields(SECTIONS[name])]
        for key in values:
            if key not in fields:
                hint = _did_you_mean(key, fields)
                raise ConfigError(
                    f"{path}: unknown key [{name}] {_one_line(key)} ({hint})"
                )


def _read_layers(path: Path) -> list[_Layer]:
    """A configuration file, its base, that one's base and so on; names are checked."""
    layers: list[_Layer] = []
    remedy = "give it as --config=PATH"
    while True:
        sections = _read_toml(path, remedy)
        base = sections.pop("base", None)
        _require_known_names(path, sections)
        layers.append(_Layer(path, sections))
        if base is None:
            return layers
        if not isinstance(base, str) or not base or "\0" in base:
            raise ConfigError(f"{path}: base = {_shown(base)} (must be a file's path)")
        remedy = f"it is the base of {path}"
        file = path.parent / base
        path = file.parent.resolve() / file.name
        if any(path == layer.path.resolve() for layer in layers):
            raise ConfigError(f"{layers[-1].path}: base = {_shown(base)} (is a circle)")


def _read_section(layers: list[_Layer], name: str):
    """Reads each key from the first of the files that has it."""
    whole = layers[-1].path  # Of the files, the one that is meant to have all keys.
    if not any(name in layer.sections for layer in layers):
        raise ConfigError(f"{whole}: section [{name}] is missing")
    values = {}
    for field in dataclasses.fields(SECTIONS[name]):
        key = field.name
        layer = next((layer for layer in layers if layer.has(name, key)), None)
        if layer is None:
            raise ConfigError(
                f"{whole}: [{name}] {key} is missing (add the line {key} = ...; "
                "config.txt as shipped explains it)"
            )
        raw = layer.sections[name][key]
        try:
            values[key] = field.metadata["check"](raw, layer.path.absolute().parent)
        except ValueError as fault:
            raise ConfigError(
                f"{layer.path}: [{name}] {key} = {_shown(raw)} ({fault})"
            ) from None
    return SECTIONS[name](**values)


def _raise_first_fault(where: str, config: Config) -> None:
    for section, key, expected in config.faults():
        value = _shown(getattr(getattr(config, section), key))
        raise ConfigError(f"{where}: [{section}] {key} = {value} ({expected})")


def read_config(path: Path | str) -> Config:
    """Reads and checks a whole configuration file.

    Args:
        path: A TOML file. Relative paths inside it are relative to its folder; so is
            ``base``, the file with the keys that it has not.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or holds an unknown, missing,
            wrongly typed or out-of-range key. One line that names key, value, remedy.
    """
    layers = _read_layers(Path(path))
    config = Config(**{name: _read_section(layers, name) for name in SECTIONS})
    _raise_first_fault(str(path), config)
    return config


def override(config: Config, section: str, key: str, value, *, flag: str) -> Config:
    """Returns the configuration with one value replaced from the command line.

    Args:
        config: What config.txt says. Not modified.
        section: Name of the section, such as "train".
        key: Name of the key in it.
        value: The new value, of the key's TOML type.
        flag: How the user gave it, such as "--batch_size", for the error message.

    Raises:
        ConfigError: The value is wrongly typed, out of range, or does not fit the rest.
    """
    values = getattr(config, section)
    field = next(f for f in dataclasses.fields(values) if f.name == key)
    try:
        checked = field.metadata["check"](value, Path.cwd())
    except ValueError as fault:
        raise ConfigError(f"{flag} = {_shown(value)} ({fault})") from None
    changed = dataclasses.replace(values, **{key: checked})
    config = dataclasses.replace(config, **{section: changed})
    _raise_first_fault(flag, config)
    return config


def write_channel_statistics(
    path: Path | str, mean: Sequence[float], std: Sequence[float]
) -> list[Path]:
    """Replaces [dataset] channel_mean and channel_std in a valid configuration file.

    Every comment and all other values stay as they are.

    Args:
        path: The file, which ``read_config`` accepts.
        mean: Of red, green and blue, in 0..1.
        std: Likewise.

    Returns:
        The file or files that have changed: the base, if that has the two keys.

    Raises:
        ConfigError: A file cannot be written.
    """
    changes: dict[Path, dict] = {}
    layers = _read_layers(Path(path))
    for key, values in (("channel_mean", mean), ("channel_std", std)):
        holder = next(layer.path for layer in layers if layer.has("dataset", key))
        # Of a link, what it leads to is replaced.
        changes.setdefault(holder.resolve(), {})[key] = values
    for holder, values_of in changes.items():
        document = tomlkit.parse(holder.read_bytes().decode("utf-8-sig"))
        for key, values in values_of.items():
            for channel, value in enumerate(values):
                document["dataset"][key][channel] = value
        try:
            with atomic_file(holder) as file:
                file.write(tomlkit.dumps(document).encode("utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{holder}: cannot be written: {error.strerror}"
            ) from None
    return list(changes)
