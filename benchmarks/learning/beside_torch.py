"""Compares what the network learns from photographs with PyTorch's, in one run.

The photographs are in class folders, DIR/train and DIR/val. For each recipe and seed
torchvision's ResNet-50 gets this project's initial weights and its batches, and PyTorch
trains it: CrossEntropyLoss, torch.optim.SGD, and in each step the same learning rate.
Rounding differs, so after some steps the two differ like two seeds. Accuracies can be
compared only over several seeds.

At the end both fine-tune, on the second half of the classes, a network that this
project has trained on the first half.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.learning.two_samples import compare
from benchmarks.peers.torchvision_programs import import_torchvision
from resnet50.config.settings import Config
from resnet50.config.toml_file import read_config
from resnet50.dataset.decoding import decode_rgb
from resnet50.dataset.images import Dataset
from resnet50.dataset.listing import open_training_set, open_validation_set
from resnet50.handoff.progress import to_position
from resnet50.network.torchvision_names import assign_state_dict, to_state_dict
from resnet50.network.tracing import traced
from resnet50.pixels.augmentation import ChannelStatistics, normalization_table
from resnet50.pixels.resampling import views
from resnet50.preprocessing.batches import Assignments, BatchSettings, make_batch
from resnet50.training.update.schedules import PerStepNumbers
from resnet50.training.update.step import Training, create_training

torch, torchvision = import_torchvision()

RECIPES, FINETUNING = ("goyal2017", "ffcv2022"), "finetuning"

# Smaller images need smaller sizes; 256 and 480 are to 224 as 37 and 69 to 32.
_SIZES = {
    "shorter_side_min": 37,
    "shorter_side_max": 69,
    "shorter_side_step": 1,
    "crop_size": 32,
    "crop_size_schedule": (),
}
# An update takes one batch, with Goyal et al.'s learning rate for its size.
_TRAIN = {
    "batch_size": 64,
    "accumulate_batches": 1,
    "learning_rate": 0.025,
    "warmup_epochs": 1,
    "precision": "float32",
    "xla": False,
    "weight_average_decay": 0.0,
}


class HeldOut(NamedTuple):
    """Crops of the held-out images."""

    images: np.ndarray  # float32 [N, crop, crop, 3], RGB, normalized
    labels: np.ndarray  # int32 [N]


def configure(recipe: str, images: Path, num_epochs: int, seed: int) -> Config:
    """A recipe with smaller sizes, and with fewer epochs between its decays."""
    config = read_config(Path("recipes", f"{recipe}.txt"))
    share = num_epochs / config.train.epochs
    changes = dict(_TRAIN)
    if recipe == FINETUNING:  # Its learning rate is part of the recipe.
        del changes["learning_rate"]
    train = dataclasses.replace(
        config.train,
        **changes,
        seed=seed,
        epochs=num_epochs,
        decay_epochs=tuple(share * epoch for epoch in config.train.decay_epochs),
    )
    return dataclasses.replace(
        config,
        dataset=dataclasses.replace(
            config.dataset,
            training_images=images / "train",
            validation_images=images / "val",
        ),
        augmentation=dataclasses.replace(config.augmentation, **_SIZES),
        evaluation=dataclasses.replace(config.evaluation, shorter_side=37),
        train=train,
    )


def read_held_out(config: Config, dataset: Dataset) -> HeldOut:
    """The crops that ``evaluate`` takes of the validation images."""
    table = normalization_table(ChannelStatistics.from_config(config.dataset))
    crops = [
        views(
            decode_rgb(source),
            shorter_side=config.evaluation.shorter_side,
            crop_size=config.augmentation.crop_size,
            num_crops=1,
        )[0]
        for source in dataset.sources(range(dataset.num_images))
    ]
    images = table[range(3), np.stack(crops)].astype(np.float32)
    return HeldOut(images, dataset.labels)


def make_batches(config: Config, dataset: Dataset) -> Iterator:
    """All batches of a training, in order, as the preprocessor makes them."""
    settings = BatchSettings.from_config(config)
    assignments = Assignments(dataset, settings)
    batches_per_epoch = dataset.batches_per_epoch(config.train.batch_size)
    for step in range(config.train.epochs * batches_per_epoch):
        yield make_batch(settings, assignments[to_position(step, batches_per_epoch)])


def to_torch(images: np.ndarray):
    """Maps float [N, H, W, 3] to float32 [N, 3, H, W]."""
    return torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32))


def some_classes(dataset: Dataset, kept: slice) -> Dataset:
    """The images of some classes of a dataset of files."""
    labels = range(dataset.num_classes)[kept]
    indices = [i for i in range(dataset.num_images) if dataset.labels[i] in labels]
    return Dataset.in_order(
        dataset.folder,
        [dataset.names[index] for index in indices],
        [int(dataset.labels[index]) - labels.start for index in indices],
        dataset.class_names[kept],
    )


class TorchTraining:
    """torchvision's ResNet-50 with the weights of a network, trained by PyTorch."""

    def __init__(self, training: Training, config: Config):
        """Copies the weights; reads momentum, penalties and smoothing."""
        train = config.train
        weights = {k: torch.tensor(v) for k, v in to_state_dict(training.model).items()}
        self.network = torchvision.models.resnet50(num_classes=len(weights["fc.bias"]))
        self.network.load_state_dict(weights, strict=True)
        penalizes_all = train.l2_penalty_on == "all"
        groups = [
            {
                "params": [parameter],
                "weight_decay": (
                    train.l2_penalty if penalizes_all or parameter.ndim > 1 else 0.0
                ),
                "factor": (
                    1.0 if name.startswith("fc.") else train.backbone_rate_factor
                ),
            }
            for name, parameter in self.network.named_parameters()
        ]
        self._optimizer = torch.optim.SGD(
            groups,
            lr=train.learning_rate,
            momentum=train.momentum,
            nesterov=train.nesterov,
        )
        self._loss = torch.nn.CrossEntropyLoss(label_smoothing=train.label_smoothing)

    def step(self, images: np.ndarray, labels: np.ndarray, learning_rate: float):
        """Makes one update."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group["factor"]
        self._optimizer.zero_grad()
        logits = self.network(to_torch(images))
        self._loss(logits, torch.tensor(labels.astype(np.int64))).backward()
        self._optimizer.step()

    def top1(self, held_out: HeldOut) -> float:
        """Share of the held-out images that are right."""
        self.network.eval()
        with torch.no_grad():
            logits = self.network(to_torch(held_out.images)).numpy()
        self.network.train()
        return float(np.mean(logits.argmax(axis=1) == held_out.labels))


def train_both(
    config: Config,
    kept: slice = slice(None),
    pretrained: dict[str, np.ndarray] | None = None,
) -> tuple[float, float]:
    """Trains both on some classes, from random or from pretrained weights.

    Returns:
        The held-out top-1 of ours and of PyTorch's.
    """
    ours, theirs, held_out = _train(config, kept, pretrained, with_torch=True)
    logits = traced(ours.model)(held_out.images, is_training=False).numpy()
    right = float(np.mean(logits.argmax(axis=1) == held_out.labels))
    return right, theirs.top1(held_out)


def pretrain(config: Config, kept: slice) -> dict[str, np.ndarray]:
    """Trains ours on some classes; returns its weights."""
    ours, *_ = _train(config, kept, None, with_torch=False)
    return to_state_dict(ours.model)


def _train(
    config: Config,
    kept: slice,
    pretrained: dict[str, np.ndarray] | None,
    *,
    with_torch: bool,
) -> tuple[Training, TorchTraining | None, HeldOut]:
    """Trains ours, and batch by batch PyTorch's too."""
    every = open_training_set(config.dataset, None)
    validation = open_validation_set(config.dataset, every.class_names, None)
    dataset = some_classes(every, kept)
    ours = create_training(
        dataset.num_classes,
        config.model,
        config.train,
        ChannelStatistics.from_config(config.dataset),
    )
    if pretrained is not None:
        head = to_state_dict(ours.model)
        new = {name: head[name] for name in ("fc.weight", "fc.bias")}
        assign_state_dict(ours.model, pretrained | new)
    theirs = TorchTraining(ours, config) if with_torch else None
    batches_per_epoch = dataset.batches_per_epoch(config.train.batch_size)
    numbers = PerStepNumbers(config.train, config.batch_renorm, batches_per_epoch)
    for step, batch in enumerate(make_batches(config, dataset)):
        at_step = numbers.at(step)
        ours.step(batch.images, batch.labels, batch.shifts, at_step)
        if theirs is not None:
            theirs.step(batch.images, batch.labels, at_step.learning_rate)
    return ours, theirs, read_held_out(config, some_classes(validation, kept))


def run(images: Path, num_epochs: int, num_seeds: int) -> None:
    """Prints both accuracies for each recipe and seed, and those of fine-tuning."""
    print(f"sizes:    {_SIZES}")
    print(f"training: {_TRAIN}, {num_epochs} epochs, else the recipe")
    for recipe in RECIPES:
        print(f"\n{recipe}")
        configs = (configure(recipe, images, num_epochs, s) for s in range(num_seeds))
        compare("PyTorch", (train_both(config) for config in configs))
    configs = [configure(FINETUNING, images, num_epochs, s) for s in range(num_seeds)]
    num_classes = open_training_set(configs[0].dataset, None).num_classes
    first, second = slice(0, num_classes // 2), slice(num_classes // 2, None)
    pretrained = pretrain(configure(RECIPES[0], images, num_epochs, 0), first)
    print(f"\n{FINETUNING}, from a network of the other {num_classes // 2} classes")
    pairs = (train_both(config, second, pretrained) for config in configs)
    compare("PyTorch", pairs)
