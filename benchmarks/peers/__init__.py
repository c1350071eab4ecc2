"""Other programs that make a batch, for benchmarks/preprocessing.py.

Each ``make`` prepares what the program's users have ready before the first batch, and
returns a function that makes and returns one batch. It raises ImportError if the
program is not installed.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from PIL import Image

from benchmarks.peers.algrshn import (
    make_algrshn_resized_beforehand,
    make_algrshn_resizing,
)
from benchmarks.peers.loaders import make_dali, make_spdl, make_turboloader
from benchmarks.peers.opencv_programs import make_albumentations, make_opencv
from benchmarks.peers.torchvision_programs import (
    make_torchvision_on_pillow,
    make_torchvision_on_tensors,
)
from benchmarks.peers.workload import MakeBatch, Workload


class Peer(NamedTuple):
    """Another program to compare with.

    The targets are the least ratios of this project's images/s to the peer's; None if
    there is none.
    """

    name: str
    make: Callable[[Workload], MakeBatch]
    target: float | None  # of batches in float16
    uint8_target: float | None = None
    plain_target: float | None = None  # with Pillow and numpy alone
    note: str = ""  # how it differs


def make_bare_decoding(workload: Workload) -> MakeBatch:
    """Only reads and decodes the files to RGB with Pillow."""

    def make_batch(epoch: int, batch_index: int) -> None:
        for path in workload.batches[batch_index]:
            with Image.open(path) as image:
                image.convert("RGB")

    return make_batch


BARE = "bare Pillow decode"
_ALIASED = "aliased"
_WINDOW = "resizes only a window of whole pixels"

# Except for algrshn's, they do steps 1-5 and write no file.
PEERS = (
    # At most 1.0 and 0.95 times its time.
    Peer(BARE, make_bare_decoding, 1.0, 1 / 0.95, note="no other step"),
    Peer("torchvision on Pillow", make_torchvision_on_pillow, 2.0, plain_target=1.4),
    Peer("torchvision v2 on tensors", make_torchvision_on_tensors, 1.4),
    Peer(
        "torchvision v2, cropped first",
        partial(make_torchvision_on_tensors, crops_first=True),
        None,
        note=_WINDOW,
    ),
    Peer("OpenCV, area", partial(make_opencv, antialiases=True), 1.2),
    Peer(
        "OpenCV, area, cropped first",
        partial(make_opencv, antialiases=True, crops_first=True),
        None,
        note=_WINDOW,
    ),
    Peer("OpenCV, linear", partial(make_opencv, antialiases=False), 1.2, note=_ALIASED),
    Peer("albumentations", make_albumentations, 1.2, note=_ALIASED),
    Peer("DALI on the CPU", make_dali, 1.8, plain_target=1.3),
    Peer(
        "DALI on the CPU, decoding the crop",
        partial(make_dali, crops_first=True),
        None,
        note=f"decodes and {_WINDOW}",
    ),
    Peer("SPDL, cropped first", make_spdl, 1.2, note=_WINDOW),
    Peer(
        "TurboLoader",
        partial(make_turboloader, decodes_whole=True),
        1.2,
        note=f"fast DCT, {_ALIASED}",
    ),
    Peer(
        "TurboLoader, decoding the crop",
        partial(make_turboloader, decodes_whole=False),
        None,
        note=f"decodes only the crop's part, fast DCT, {_ALIASED}",
    ),
    Peer(
        "algrshn/resnet50, resized beforehand",
        make_algrshn_resized_beforehand,
        2.5,
        plain_target=2.0,
        note="six steps and a file",
    ),
    Peer(
        "algrshn/resnet50, resizing",
        make_algrshn_resizing,
        15.0,
        plain_target=15.0,
        note="six steps and a file",
    ),
)
