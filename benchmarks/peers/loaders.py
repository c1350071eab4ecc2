"""Batches by programs that load data for training: DALI, SPDL and TurboLoader."""

import random
from pathlib import Path

import numpy as np

from benchmarks.peers.workload import MakeBatch, Workload, draw_choices


def make_dali(workload: Workload, *, crops_first: bool = False) -> MakeBatch:
    """Steps 1-5 with NVIDIA DALI's operators on the CPU, one thread.

    Synchronous, so that it computes only while it is timed. The result, float32
    [N, H, W, 3], stays in DALI's memory.

    Args:
        workload: The input.
        crops_first: Decodes and resizes only the crop's part of the image, in whole
            pixels.
    """
    from nvidia.dali import Pipeline, fn, types

    size = workload.crop_size
    statistics = workload.settings.statistics
    files: list[Path] = []
    pipeline = Pipeline(
        batch_size=workload.settings.batch_size,
        num_threads=1,
        device_id=None,
        exec_async=False,
        exec_pipelined=False,
        prefetch_queue_depth=1,
        seed=0,
    )
    with pipeline:
        encoded = fn.external_source(
            source=lambda: [np.fromfile(path, np.uint8) for path in files],
            batch=True,
            dtype=types.UINT8,
        )
        side = fn.random.uniform(values=[float(s) for s in workload.sides])
        bilinear = {"interp_type": types.INTERP_LINEAR, "antialias": True}
        if crops_first:
            shape = fn.cast(fn.peek_image_shape(encoded)[:2], dtype=types.FLOAT)
            window = size / side * fn.reductions.min(shape)
            corner = fn.random.uniform(range=(0.0, 1.0), shape=2) * (shape - window)
            images = fn.decoders.image_slice(
                encoded,
                corner,
                fn.stack(window, window),
                axes=[0, 1],
                normalized_anchor=False,
                normalized_shape=False,
                device="cpu",
                output_type=types.RGB,
            )
            images = fn.resize(images, size=[size, size], **bilinear)
        else:
            images = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
            images = fn.resize(images, resize_shorter=side, **bilinear)
        images = fn.crop_mirror_normalize(
            images,
            crop=(size, size),
            crop_pos_x=fn.random.uniform(range=(0.0, 1.0)),
            crop_pos_y=fn.random.uniform(range=(0.0, 1.0)),
            mirror=fn.random.coin_flip(),
            mean=[255 * value for value in statistics.mean],
            std=[255 * value for value in statistics.std],
            dtype=types.FLOAT,
            output_layout="HWC",
        )
        pipeline.set_outputs(images)
    pipeline.build()

    def make_batch(epoch: int, batch_index: int):
        files[:] = workload.batches[batch_index]
        return pipeline.run()[0]

    return make_batch


def make_spdl(workload: Workload) -> MakeBatch:
    """Steps 1-5 with Meta's SPDL: FFmpeg decodes, crops, resizes and flips.

    It crops first, in whole pixels: the other order takes 1.3 times as long. FFmpeg's
    bilinear filter antialiases. The result is float32 [N, H, W, 3]; SPDL itself returns
    uint8.
    """
    import spdl.io

    try:
        spdl.io.demux_config()
    except RuntimeError as error:
        raise ImportError("SPDL found no shared libraries of FFmpeg") from error
    rng = random.Random(0)
    size, statistics = workload.crop_size, workload.settings.statistics
    # One row: numpy broadcasts three values at a fifth of the speed.
    mean = np.tile(255 * np.float32(statistics.mean), size)
    inverse_std = np.tile(1 / (255 * np.float32(statistics.std)), size)

    def make_image(path: Path, out: np.ndarray) -> None:
        packets = spdl.io.demux_image(path.read_bytes())
        codec = packets.codec
        choices = draw_choices(rng, workload, codec.width, codec.height)
        left, top, side = choices.window(size)
        filters = f"crop={side}:{side}:{left}:{top}:exact=1"
        filters += f",scale={size}:{size}:flags=bilinear"
        filters += ",hflip" * choices.is_flipped + ",format=rgb24"
        frames = spdl.io.decode_packets(packets, filter_desc=filters)
        crop = spdl.io.to_numpy(spdl.io.convert_frames(frames))
        rows = out.reshape(size, -1)
        np.subtract(crop.reshape(size, -1), mean, out=rows)
        rows *= inverse_std

    return workload.filled_by(make_image)


def make_turboloader(workload: Workload, *, decodes_whole: bool) -> MakeBatch:
    """Steps 1-5 with the functions that TurboLoader's own loaders consist of.

    Its loaders offer no random shorter side. Its decoder uses libjpeg-turbo's fast,
    inexact DCT, and its resampling interpolates each pixel from 4, so it aliases. The
    result is float32 [N, 3, H, W].

    Args:
        workload: The input.
        decodes_whole: Whether it decodes more than the crop's part of the image.
    """
    import _turboloader as turboloader  # not all functions are in the public module
    import simplejpeg

    rng = random.Random(0)
    size = workload.crop_size
    mean, std = (np.float32(values) for values in workload.settings.statistics)
    first_row = np.zeros(1, np.int64)

    def make_image(path: Path, out: np.ndarray) -> None:
        data = path.read_bytes()
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        choices = draw_choices(rng, workload, width, height)
        # The crop's window in the image; not rounded to whole pixels.
        left, top = choices.scale * choices.left, choices.scale * choices.top
        side = choices.scale * size
        first_x = first_y = 0
        if decodes_whole:
            pixels = turboloader.decode_jpeg(data)
        else:
            # One pixel more on each side, for the interpolation.
            first_x, first_y = max(int(left) - 1, 0), max(int(top) - 1, 0)
            last_x = min(int(left + side) + 2, width)
            last_y = min(int(top + side) + 2, height)
            pixels, first_x, _, _ = turboloader.decode_jpeg_region(
                data,
                width,
                height,
                first_x,
                first_y,
                last_x - first_x,
                last_y - first_y,
            )
        turboloader.crop_resize_normalize_u8_gather(
            pixels[None],
            first_row,
            np.float32([[left - first_x, top - first_y, side, side]]),
            np.uint8([choices.is_flipped]),
            out[None],
            mean,
            std,
        )

    return workload.filled_by(make_image, channels_first=True)
