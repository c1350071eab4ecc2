"""Chooses the values of a new config.txt that depend on the images and the machine."""

from typing import Any, NamedTuple

# config.txt as shipped: 90 epochs of batches of 64, and the crops of ImageNet.
_EPOCHS, _MOST_EPOCHS = 90, 200
_UPDATES = 30_000  # what a training should have; more epochs if the images are few
_BATCH_SIZE, _CROP_SIZE, _BUFFER_SIZE = 64, 224, 1000
_SMALL_CARD_BYTES = 7.5e9  # below it, batches of 32: see training.devices.memory

Changes = dict[str, dict[str, Any]]


class Circumstances(NamedTuple):
    """What the values depend on."""

    shorter_side: int  # median of the images, in pixels
    num_images: int  # for training
    num_cores: int
    card_bytes: int | None  # memory of the GPU; None without one
    disk_bytes: int  # free where the configuration is
    ram_disk: str  # a folder in memory that can be the buffer
    ram_disk_bytes: int  # free there


def choose_values(at: Circumstances) -> tuple[Changes, dict[str, str]]:
    """Returns values for keys of each section, and for some keys a line that says why.

    The learning rate is for a training from random weights.
    """
    crop_size = _crop_size(at.shorter_side)
    step = crop_size // 32
    least = round(crop_size * 8 / 7)
    batch_size = _batch_size(at.num_images, at.card_bytes)
    batches = at.num_images // batch_size
    epochs = min(_MOST_EPOCHS, max(_EPOCHS, round(_UPDATES / batches)))
    buffer, buffer_line = _buffer(at, batch_size, crop_size, batches)
    changes: Changes = {
        "augmentation": {
            "shorter_side_min": least,
            "shorter_side_max": least + 32 * step,
            "shorter_side_step": step,
            "crop_size": crop_size,
        },
        "train": {
            **buffer,
            "batch_size": batch_size,
            "epochs": epochs,
            "learning_rate": round(0.1 * batch_size / 256, 6),
            "schedule": "cosine",
            "warmup_epochs": 5,
        },
        "runtime_preprocessing": {
            "num_workers": max(1, at.num_cores - 1),
            "sleep_time": 10 if buffer["buffer_size"] >= 200 else 1,
        },
        "evaluation": {"shorter_side": least, "num_workers": at.num_cores},
    }
    card = "no GPU is found" if at.card_bytes is None else "the GPU"
    if at.card_bytes is not None:
        card += f" has {at.card_bytes / 1e9:.0f} GB"
    rate = changes["train"]["learning_rate"]
    num_workers = changes["runtime_preprocessing"]["num_workers"]
    lines = {
        "crop_size": f"crop_size = {crop_size}: the images' shorter sides have a "
        f"median of {at.shorter_side} pixels",
        "batch_size": f"batch_size = {batch_size}: {at.num_images:,} training images "
        f"make {batches:,} batches; {card}",
        "epochs": f"epochs = {epochs}: these are {epochs * batches:,} updates",
        "learning_rate": f"learning_rate = {rate}: 0.1 / 256 for each image of a batch",
        "buffer_size": buffer_line,
        "num_workers": f"num_workers = {num_workers}: one of {at.num_cores} cores is "
        "for the trainer",
    }
    return changes, lines


def _crop_size(shorter_side: int) -> int:
    """The greatest multiple of 32 up to 7/8 of the images' shorter side, 32 to 224."""
    return min(_CROP_SIZE, max(32, shorter_side * 7 // 8 // 32 * 32))


def _batch_size(num_images: int, card_bytes: int | None) -> int:
    """A power of two: at most 64 and an eighth of the images, but 4 if possible."""
    is_small = card_bytes is not None and card_bytes < _SMALL_CARD_BYTES
    most = min(_BATCH_SIZE // 2 if is_small else _BATCH_SIZE, num_images // 8)
    most = max(most, min(4, num_images))
    return 1 << most.bit_length() - 1


def _buffer(
    at: Circumstances, batch_size: int, crop_size: int, batches: int
) -> tuple[dict[str, Any], str]:
    """[train] buffer_folder and buffer_size: two epochs, if they fit."""
    batch_bytes = 2 * 3 * crop_size**2 * batch_size  # float16
    wanted = min(_BUFFER_SIZE, max(20, 2 * batches))
    # A RAM disk takes memory from the programs, and a disk has other users.
    is_in_memory = wanted * batch_bytes <= at.ram_disk_bytes / 4
    size = wanted
    if not is_in_memory:
        size = max(1, min(wanted, int(at.disk_bytes / 2) // batch_bytes))
    folder = at.ram_disk if is_in_memory else "buffer"
    free = at.ram_disk_bytes if is_in_memory else at.disk_bytes
    line = (
        f"buffer_folder = {folder}, buffer_size = {size}: "
        f"{size * batch_bytes / 1e9:.2f} GB; {free / 1e9:.1f} are free "
        + ("in memory" if is_in_memory else "on the disk")
    )
    return {"buffer_folder": folder, "buffer_size": size}, line
