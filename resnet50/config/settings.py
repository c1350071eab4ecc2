"""The settings of config.txt as frozen dataclasses, one for each section.

Each field carries its own check, so this module is the only list of all settings.
config.txt, as shipped, explains each of them to the user; ``toml_file`` reads it.
"""

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path

from resnet50.config import constraints as checks
from resnet50.errors import UserError


class ConfigError(UserError):
    """A setting in config.txt or on the command line cannot be used."""


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """[dataset]: the images and their channel statistics."""

    training_images: Path | str = checks.path_or_url()
    training_list: Path | None = checks.path(optional=True)
    validation_images: Path | str = checks.path_or_url()
    validation_list: Path | None = checks.path(optional=True)
    cache_folder: Path = checks.path()
    cache_gigabytes: float = checks.real(0, 1e6)
    channel_mean: tuple[float, float, float] = checks.per_channel(0, 1)
    channel_std: tuple[float, float, float] = checks.per_channel(0.001, 1)


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """[augmentation]: the six steps that make a crop of an image."""

    shorter_side_min: int = checks.whole(1, 10_000)
    shorter_side_max: int = checks.whole(1, 10_000)
    shorter_side_step: int = checks.whole(1)
    crop_size: int = checks.whole(32, 10_000)
    crop_method: str = checks.choice("shorter_side", "random_area", "center")
    crop_area: tuple[float, float] = checks.bounds(0.001, 1)
    crop_ratio: tuple[float, float] = checks.bounds(0.1, 10)
    flip_probability: float = checks.real(0, 1)
    colour_jitter_stddev: float = checks.real(0, 10)
    crop_size_schedule: tuple[tuple[int, int], ...] = checks.crop_size_schedule()
    trivial_augment: bool = checks.flag()
    erasing_probability: float = checks.real(0, 1)
    repeated_augmentation: int = checks.whole(1, 100)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what it must be) for values that do not fit together."""
        if self.shorter_side_min < self.crop_size:
            yield "shorter_side_min", f"must be at least crop_size = {self.crop_size}"
        if self.shorter_side_max < self.shorter_side_min:
            least = f"shorter_side_min = {self.shorter_side_min}"
            yield "shorter_side_max", f"must be at least {least}"
        span = self.shorter_side_max - self.shorter_side_min
        if span % self.shorter_side_step:
            what = f"{span}, which is shorter_side_max - shorter_side_min"
            yield "shorter_side_step", f"must divide {what}"
        if any(size > self.crop_size for _, size in self.crop_size_schedule):
            most = f"crop_size = {self.crop_size}"
            yield "crop_size_schedule", f"must have no size above {most}"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """[model]: the network."""

    variant: str = checks.choice("v1.5", "v1")
    normalization: str = checks.choice("batch_norm", "batch_renorm")
    moving_average_decay: float = checks.real(0, 1, above=True, below=True)
    epsilon: float = checks.real(0, 1, above=True)
    zero_init_last_gamma: bool = checks.flag()
    trainable: str = checks.choice(
        "all", "stage1", "stage2", "stage3", "stage4", "classifier"
    )
    synchronized_batch_norm: bool = checks.flag()


@dataclasses.dataclass(frozen=True)
class BatchRenormConfig:
    """[batch_renorm]: how r_max and d_max grow (Ioffe 2017, section 4)."""

    r_max: float = checks.real(1)
    r_start_step: int = checks.whole(0)
    r_end_step: int = checks.whole(1)
    d_max: float = checks.real(0)
    d_start_step: int = checks.whole(0)
    d_end_step: int = checks.whole(1)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what it must be) for values that do not fit together."""
        if self.r_end_step <= self.r_start_step:
            yield "r_end_step", f"must be above r_start_step = {self.r_start_step}"
        if self.d_end_step <= self.d_start_step:
            yield "d_end_step", f"must be above d_start_step = {self.d_start_step}"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """[train]: the buffer, the run and the training."""

    buffer_folder: Path = checks.path()
    buffer_size: int = checks.whole(1)
    dtype: str = checks.choice("uint8", "float16", "float32")
    sleep_time: float = checks.real(0, 3600, above=True)
    read_ahead: int = checks.whole(1, 1000)
    local_folders: bool = checks.flag()
    saved_models_folder: Path = checks.path()
    seed: int = checks.whole(0, 2**63 - 1)
    deterministic: bool = checks.flag()
    precision: str = checks.choice("auto", "float32", "float16", "bfloat16")
    tf32: bool = checks.flag()
    xla: bool | str = checks.flag(or_auto=True)
    checkpoint_minutes: float = checks.real(0)
    keep_checkpoints: int = checks.whole(0)
    batch_size: int = checks.whole(1, 100_000)
    accumulate_batches: int = checks.whole(1, 100_000)
    epochs: int = checks.whole(1)
    patience: int = checks.whole(0)
    learning_rate: float = checks.real(0, above=True)
    backbone_rate_factor: float = checks.real(0, 1, above=True)
    schedule: str = checks.choice("constant", "step", "linear", "cosine")
    warmup_epochs: float = checks.real(0)
    decay_epochs: tuple[float, ...] = checks.ascending_reals()
    decay_factor: float = checks.real(0, 1, above=True)
    optimizer: str = checks.choice("sgd", "lamb")
    momentum: float = checks.real(0, 1, below=True)
    nesterov: bool = checks.flag()
    l2_penalty: float = checks.real(0)
    weight_decay: float = checks.real(0)
    l2_penalty_on: str = checks.choice("kernels", "all")
    sampling: str = checks.choice("uniform", "balanced")
    class_weights: str = checks.choice("none", "balanced")
    label_smoothing: float = checks.real(0, 1, below=True)
    loss: str = checks.choice("cross_entropy", "binary_cross_entropy")
    target_threshold: float = checks.real(0, 1)
    mixup_alpha: float = checks.real(0, 100)
    cutmix_alpha: float = checks.real(0, 100)
    weight_average_decay: float = checks.real(0, 1, below=True)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what it must be) for values that do not fit together."""
        if self.optimizer == "lamb" and self.l2_penalty:
            yield "l2_penalty", 'must be 0 if optimizer is "lamb" (use weight_decay)'
        if self.optimizer == "sgd" and self.weight_decay:
            yield "weight_decay", 'must be 0 if optimizer is "sgd" (use l2_penalty)'
        if self.warmup_epochs > self.epochs:
            yield "warmup_epochs", f"must be at most epochs = {self.epochs}"
        if self.class_weights == self.sampling == "balanced":
            reason = 'sampling = "balanced", which makes the classes equal already'
            yield "class_weights", f'must be "none" with {reason}'


@dataclasses.dataclass(frozen=True)
class RuntimePreprocessingConfig:
    """[runtime_preprocessing]: the process that fills the buffer."""

    num_workers: int = checks.whole(1, 1024)
    sleep_time: float = checks.real(0, 3600, above=True)
    refill_below: float = checks.real(0, 1, above=True)
    executor: str = checks.choice("processes", "dask")
    scheduler: str = checks.scheduler()
    transfer: str = checks.choice("folder", "network")

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what it must be) for values that do not fit together."""
        if self.executor == "dask" and not self.scheduler:
            yield "scheduler", f"must be {checks.SCHEDULER_ADDRESS} if executor is dask"


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """[evaluation]: how the validation images are evaluated."""

    shorter_side: int = checks.whole(1, 10_000)
    batch_size: int = checks.whole(1, 100_000)
    num_workers: int = checks.whole(1, 1024)


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

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Yields (section, key, what it must be) where values do not fit together."""
        for section in dataclasses.fields(self):
            values = getattr(self, section.name)
            if hasattr(values, "faults"):
                for key, expected in values.faults():
                    yield section.name, key, expected
        size = self.augmentation.crop_size
        if self.evaluation.shorter_side < size:
            least = f"[augmentation] crop_size = {size}"
            yield "evaluation", "shorter_side", f"must be at least {least}"


# The dataclass of each section.
SECTIONS = typing.get_type_hints(Config)
