"""Decodes only a region of a JPEG file, with nvImageCodec on the CPU.

Its decoder is libjpeg-turbo, as Pillow's is. It reads all the codes above the region's
lower edge, but transforms, interpolates and converts only the region's pixels. They are
those of a whole decode, bit by bit.

That holds if nothing outside the region can make Pillow refuse the file or change the
region's pixels: the file has one baseline frame in one scan, whose codes no marker
interrupts, and ends with it. Most photographs are such files. Progressive files, which
have several scans, would gain little.
"""

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Region = tuple[int, int, int, int]  # left, top, right, bottom

JPEG_START = b"\xff\xd8"
_DHT, _EOI, _SOS, _DRI = 0xC4, 0xD9, 0xDA, 0xDD
_BASELINE_FRAMES = {0xC0, 0xC1}
# Other frames, and markers that no segment follows.
_OTHERS = {0, 1, *range(0xC2, _SOS), 0xFF} - {_DHT}

# The first marker after the start of a scan; FF 00 is the value FF.
_MARKER = re.compile(rb"\xff[^\x00]")
_MARKER_BUT_RESTARTS = re.compile(rb"\xff[^\x00\xd0-\xd7]")

# Blocks of luminance along x and y for one of chrominance, 4 bits each.
_SUBSAMPLINGS = {0x11, 0x21, 0x12, 0x22, 0x41}

# libjpeg interpolates the chrominance of narrower images, and regions, differently.
_MIN_SIDE = 16

_WITHOUT_GPU = -99999  # nvImageCodec's device_id


def divisible_size(data: bytes) -> tuple[int, int] | None:
    """Returns width and height of a JPEG file whose regions can be decoded.

    None: it is another file, or nvImageCodec is not usable.
    """
    if data[:2] != JPEG_START or _decoder() is None:
        return None
    at, size, num_components, marker = 2, None, 0, _MARKER
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in _OTHERS:
            return None
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : end]
        if kind in _BASELINE_FRAMES:
            num_components = len(segment) // 3 - 2
            if size or not _is_usual(segment, num_components):
                return None
            height, width = (int.from_bytes(segment[i : i + 2], "big") for i in (1, 3))
            size = width, height
        elif kind == _DRI and any(segment):
            marker = _MARKER_BUT_RESTARTS
        elif kind == _SOS:
            found = marker.search(data, end)
            is_whole = found and found.start() == len(data) - 2 and data[-1] == _EOI
            has_all = len(segment) == 4 + 2 * num_components
            return size if size and min(size) and has_all and is_whole else None
        at = max(end, at + 4)
    return None


def _is_usual(frame: bytes, num_components: int) -> bool:
    """Whether a frame is grey or has three colours, with 8 bits each."""
    return (
        num_components in (1, 3)
        and len(frame) == 6 + 3 * num_components
        and (frame[0], frame[5]) == (8, num_components)
        and frame[7] in (_SUBSAMPLINGS if num_components == 3 else {0x11})
        and all(factors == 0x11 for factors in frame[10::3])
    )


def nvimgcodec_version() -> str | None:
    """The version of nvImageCodec; None if it is not installed."""
    for platform in ("cu12", "cu13"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(f"nvidia-nvimgcodec-{platform}")
    return None


@contextlib.contextmanager
def _only_libjpeg_turbo() -> Iterator[None]:
    """Lets nvImageCodec load a single extension while it is imported.

    The others would complain that CUDA's libraries are missing, take 10 MB of memory,
    and decode otherwise what libjpeg-turbo refuses.
    """
    name = "NVIMGCODEC_EXTENSIONS_PATH"
    package = importlib.util.find_spec("nvidia.nvimgcodec")
    if package is None:
        raise ImportError("nvidia-nvimgcodec is not installed")
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory() as folder:
        for root in package.submodule_search_locations or ():
            for path in Path(root, "extensions").glob("libjpeg_turbo_ext.so*"):
                Path(folder, path.name).symlink_to(path)
        os.environ[name] = folder
        try:
            yield
        finally:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before


@functools.cache
def _decoder() -> Callable[..., np.ndarray | None] | None:
    """Returns a function of data and region; None if nvImageCodec is not usable."""
    try:
        with _only_libjpeg_turbo(), _without_stderr():
            from nvidia import nvimgcodec

            decoder = nvimgcodec.Decoder(
                device_id=_WITHOUT_GPU,
                max_num_cpu_threads=1,
                backends=[nvimgcodec.Backend(nvimgcodec.BackendKind.CPU_ONLY)],
            )
            params = nvimgcodec.DecodeParams(apply_exif_orientation=False)
    # No wheel for this machine, a version that lacks something, no temporary folder.
    except Exception:
        return None

    canvas = _Canvas()

    def decode(data: bytes, region: Region) -> np.ndarray | None:
        left, top, right, bottom = region
        wanted = nvimgcodec.Region(top, left, bottom, right)
        stream = nvimgcodec.CodeStream(data).get_sub_code_stream(region=wanted)
        image = decoder.decode(stream, image=canvas.image, params=params)
        return None if image is None else canvas.copy_of(image)

    return decode


class _Canvas:
    """The image that a process decodes into, in one thread.

    Whoever asks an image of nvImageCodec 0.9 for its address, as numpy does, leaks 32
    bytes. So one image is used again and again, and asked when its memory has grown.
    """

    def __init__(self) -> None:
        self.image: Any = None
        self._memory = np.empty(0, np.uint8)

    def copy_of(self, image: Any) -> np.ndarray:
        """Returns the pixels of the image, uint8 [H, W, C]."""
        if image is not self.image or image.capacity != len(self._memory):
            address = np.asarray(image).ctypes.data
            buffer = (ctypes.c_uint8 * image.capacity).from_address(address)
            self.image, self._memory = image, np.frombuffer(buffer, np.uint8)
        pixels = self._memory[: math.prod(image.shape)].reshape(image.shape)
        return pixels.copy()


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Discards what C code prints about a damaged image; Pillow judges the image."""
    stderr = os.dup(2)
    try:
        os.dup2(_null(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@functools.cache
def _null() -> int:
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def decode_region(data: bytes, region: Region) -> np.ndarray | None:
    """Decodes a region of a file that has a ``divisible_size``, inside this size.

    Returns uint8 [H, W, 3], RGB; None if only a whole decode will do.
    """
    left, top, right, bottom = region
    if min(right - left, bottom - top) < _MIN_SIDE:
        return None
    decode = _decoder()
    try:
        with _without_stderr():
            return decode(data, region) if decode else None
    except Exception:  # Whatever it raises about a damaged header.
        return None
