"""Proves that a batch is a pure function of its address and the settings.

The bytes do not depend on who makes it, when, or after what. Images are flat colours
that encode their own index, so each batch proves which images it holds.
"""

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet50.config.settings import AugmentationConfig
from resnet50.config.toml_file import read_config
from resnet50.dataset import images
from resnet50.dataset.class_folders import list_class_folders
from resnet50.dataset.decoding import decode_rgb
from resnet50.dataset.images import Dataset, PackedNames, epoch_order
from resnet50.dataset.sources import ImageSource
from resnet50.handoff.buffer import BatchBuffer, BatchFileError, BatchSpec, Rows
from resnet50.handoff.progress import Position
from resnet50.pixels.augmentation import (
    ChannelStatistics,
    normalize_crops,
)
from resnet50.preprocessing import batches
from resnet50.preprocessing.batches import (
    AUGMENTATION,
    Assignments,
    BatchSettings,
    NothingReadableError,
    batch_params,
    make_batch,
)
from resnet50.preprocessing.process_pool import worker_pool
from tests.config.test_settings import SHIPPED
from tests.images import indices_in_batch, make_class_folders, photograph
from tests.pixels.whole_images import augment_whole
from tests.preprocessing.batch_settings import STATISTICS, make_settings

NUM_CLASSES, IMAGES_PER_CLASS = 5, 5
# 25 images in batches of 4: 6 whole batches, one image left over.
BATCHES_PER_EPOCH = 6
POSITIONS = [Position(e, b) for e in range(2) for b in range(BATCHES_PER_EPOCH)]


@pytest.fixture
def flat(tmp_path):
    """25 images that encode their indices; and the list of their files."""
    folder = tmp_path / "flat"
    paths = make_class_folders(folder, NUM_CLASSES, IMAGES_PER_CLASS)
    return list_class_folders(folder), paths


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """12 images of different sizes in 3 classes."""
    folder = tmp_path_factory.mktemp("photographs")
    for index in range(12):
        path = folder / f"class_{index % 3}" / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photograph(30 + 5 * index, 90 - 4 * index, index)).save(path)
    return list_class_folders(folder)


def make(dataset, position, **changes):
    settings = make_settings(**changes)
    return make_batch(settings, Assignments(dataset, settings)[Position(*position)])


def content(batch) -> tuple[bytes, bytes]:
    return batch.images.tobytes(), batch.labels.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_batch_has_the_promised_form(photographs, dtype):
    batch = make(photographs, (0, 1), dtype=dtype)
    assert batch.images.shape == (4, 32, 32, 3)
    assert (batch.images.dtype, batch.labels.dtype) == (dtype, np.int32)
    assert np.isfinite(batch.images).all()
    assert batch.unreadable == []


def test_every_image_at_most_once_per_epoch_in_the_epochs_order(flat):
    dataset, _ = flat
    assert dataset.batches_per_epoch(4) == BATCHES_PER_EPOCH
    for epoch in range(3):
        seen = []
        for batch_index in range(BATCHES_PER_EPOCH):
            batch = make(dataset, (epoch, batch_index))
            indices = indices_in_batch(batch.images, STATISTICS)
            assert batch.labels.tolist() == [i // IMAGES_PER_CLASS for i in indices]
            seen.extend(indices)
        assert len(set(seen)) == len(seen) == 24
        assert seen == epoch_order(25, 7, epoch)[:24].tolist()


def test_balanced_sampling_takes_each_class_equally_often(tmp_path):
    """After a restart in any epoch too; a batch has its images' own labels."""
    labels = np.repeat(np.arange(2, dtype=np.int32), [20, 4])
    names = PackedNames.pack(f"{index}.png" for index in range(24))
    dataset = Dataset(tmp_path, names, labels, ("large", "small"))
    settings = make_settings(sampling="balanced")
    assert settings.manifest(dataset)["sampling"] == "balanced"
    seen = []
    for epoch in range(3):
        restarted = Assignments(dataset, settings)
        for batch_index in range(6):
            batch = restarted[Position(epoch, batch_index)]
            paths = [Path(str(source)).stem for source in batch.sources]
            assert batch.labels.tolist() == [labels[int(path)] for path in paths]
            seen += batch.labels[:4].tolist()
    assert [seen.count(label) for label in range(2)] == [36, 36]
    backward = Assignments(dataset, settings)
    positions = [Position(e, b) for e in range(3) for b in range(6)][::-1]
    again = [backward[p].labels[:4].tolist() for p in positions][::-1]
    assert np.concatenate(again).tolist() == seen


def test_same_bytes_when_made_twice_and_in_another_order(photographs):
    positions = [Position(e, b) for e in range(2) for b in range(3)]
    settings = make_settings()
    forward, backward = (
        Assignments(photographs, settings),
        Assignments(photographs, settings),
    )
    first = {p: content(make_batch(settings, forward[p])) for p in positions}
    second = {p: content(make_batch(settings, backward[p])) for p in positions[::-1]}
    assert first == second
    assert len(set(first.values())) == len(positions)


def test_same_bytes_in_a_fresh_process(photographs):
    settings = make_settings()
    assignment = Assignments(photographs, settings)[Position(1, 2)]
    with worker_pool(1) as pool:
        there = pool.submit(make_batch, settings, assignment).result()
    assert content(there) == content(make_batch(settings, assignment))


@pytest.mark.parametrize(
    "change",
    [
        {"position": (1, 0)},
        {"position": (0, 1)},
        {"seed": 8},
        {"dtype": "float16"},
        {"shorter_side_max": 71},
        {"flip_probability": 0.0},
        {"colour_jitter_stddev": 0.2},
        {"statistics": ChannelStatistics((0.4, 0.5, 0.6), STATISTICS.std)},
    ],
    ids=str,
)
def test_another_address_or_setting_gives_another_batch(photographs, change):
    position = change.get("position", (0, 0))
    others = {key: value for key, value in change.items() if key != "position"}
    batch = make(photographs, (0, 0))
    assert content(make(photographs, position, **others))[0] != content(batch)[0]


def test_params_come_from_the_designed_stream():
    settings = make_settings(batch_size=2)
    rng = np.random.default_rng([7, AUGMENTATION, 3, 5])
    for params in batch_params(settings, Position(3, 5)):
        uniform, normal = rng.random(4), rng.standard_normal(3)
        assert params.crop_fractions == (uniform[1], uniform[2])
        assert params.colour_weights == tuple(normal * 0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"crop_method": "random_area"},
        {"trivial_augment": True},
        {"erasing_probability": 1.0},
    ],
    ids=str,
)
def test_optional_steps_change_no_choice_of_the_six(photographs, change):
    settings = make_settings(**change)
    position = Position(3, 5)
    for plain, params in zip(
        batch_params(make_settings(), position), batch_params(settings, position)
    ):
        assert params.optional != plain.optional
        assert params._replace(optional=plain.optional) == plain
    plain, changed = make(photographs, (0, 0)), make(photographs, (0, 0), **change)
    assert content(plain)[0] != content(changed)[0]


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_augmentation_is_repeated_in_consecutive_batches(flat, repeats):
    """In the flat images, the colour is the image's index."""
    dataset = flat[0]
    settings = make_settings(
        repeated_augmentation=repeats, colour_jitter_stddev=0.0, dtype="float32"
    )
    assignments = Assignments(dataset, settings)
    order = epoch_order(dataset.num_images, settings.seed, 1)
    for batch_index in range(dataset.batches_per_epoch(4)):
        first = batch_index // repeats * 4
        batch = make_batch(settings, assignments[Position(1, batch_index)])
        found = indices_in_batch(batch.images, STATISTICS)
        assert found == order[first : first + 4].tolist()
    params = [batch_params(settings, Position(1, i)) for i in (0, 1)]
    assert params[0] != params[1]


def test_purpose_tags_keep_the_streams_apart():
    # Without a tag, a zero at the end makes no difference.
    numbers = [np.random.default_rng(seed).random() for seed in ([7, 2], [7, 2, 0])]
    assert numbers[0] == numbers[1]
    assert images.EPOCH_ORDER != AUGMENTATION
    streams = [[s, images.EPOCH_ORDER, e] for s in range(4) for e in range(4)]
    streams += [
        [s, AUGMENTATION, e, b] for s in range(4) for e in range(4) for b in range(4)
    ]
    firsts = {np.random.default_rng(stream).random() for stream in streams}
    assert len(firsts) == len(streams) == 80


def test_unreadable_image_is_replaced_by_the_next_with_its_own_label(flat):
    dataset, paths = flat
    before = make(dataset, (0, 2))
    indices = indices_in_batch(before.images, STATISTICS)
    broken = paths[indices[1]]
    broken.write_bytes(b"not an image")

    after = make(dataset, (0, 2))
    expected = [indices[0], indices[2], indices[2], indices[3]]
    assert indices_in_batch(after.images, STATISTICS) == expected
    assert after.labels.tolist() == [i // IMAGES_PER_CLASS for i in expected]
    [(path, reason)] = after.unreadable
    assert path == str(broken)
    assert "no image" in reason
    for index in (0, 2, 3):
        assert after.images[index].tobytes() == before.images[index].tobytes()


def test_replacement_skips_unreadable_ones_into_the_next_batch(flat):
    dataset, paths = flat
    indices = indices_in_batch(make(dataset, (0, 2)).images, STATISTICS)
    following = indices_in_batch(make(dataset, (0, 3)).images, STATISTICS)
    for index in (indices[0], indices[2], indices[3], following[0]):
        paths[index].unlink()
    batch = make(dataset, (0, 2))
    expected = [indices[1], indices[1], following[1], following[1]]
    assert indices_in_batch(batch.images, STATISTICS) == expected
    assert batch.labels.tolist() == [i // IMAGES_PER_CLASS for i in expected]
    assert [path for path, _ in batch.unreadable] == [
        str(paths[index])
        for index in (indices[0], indices[2], indices[3], following[0])
    ]
    assert all("No such file" in reason for _, reason in batch.unreadable)


def test_replacement_of_the_last_continues_with_the_dropped_images(flat):
    dataset, paths = flat
    order = epoch_order(dataset.num_images, make_settings().seed, 0)
    last = dataset.batches_per_epoch(4) - 1
    assert len(order) % 4  # Some images are in no batch of the epoch.
    paths[order[4 * last + 3]].unlink()
    batch = make(dataset, (0, last))
    expected = [*order[4 * last : 4 * last + 3], order[4 * last + 4]]
    assert indices_in_batch(batch.images, STATISTICS) == expected


def test_replacement_gets_the_params_of_the_image_it_replaces(tmp_path):
    for index in range(3):
        path = tmp_path / "class" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photograph(70, 60, index)).save(path)
    dataset = list_class_folders(tmp_path)
    settings = make_settings(batch_size=3)
    assignment = Assignments(dataset, settings)[Position(0, 0)]
    Path(str(assignment.sources[1])).write_bytes(b"")
    batch = make_batch(settings, assignment)
    expected = np.empty((32, 32, 3), np.float32)
    params = batch_params(settings, Position(0, 0))[1]
    augment_whole(decode_rgb(assignment.sources[2]), params, STATISTICS, expected)
    assert batch.images[1].tobytes() == expected.tobytes()


def test_nothing_readable_is_an_error_and_no_batch(flat):
    dataset, paths = flat
    for path in paths:
        path.unlink()
    settings = make_settings()
    assignment = Assignments(dataset, settings)[Position(1, 2)]
    with pytest.raises(NothingReadableError) as caught:
        make_batch(settings, assignment)
    assert str(caught.value) == (
        "none of the 4 images of epoch 1, batch 2 can be read, nor the next 16; the "
        f"first is {assignment.sources[0]}: No such file or directory (is the disk "
        "with the images there?)"
    )


def test_images_of_a_disk_that_was_gone_for_a_moment_are_not_replaced(
    flat, monkeypatch
):
    """They would be readable in another run, so the batch would have other bytes."""
    dataset, _ = flat
    settings = make_settings()
    assignment = Assignments(dataset, settings)[Position(1, 2)]
    expected = content(make_batch(settings, assignment))
    real_read, calls = ImageSource.read, []

    def read(source):
        calls.append(source)
        if 2 <= len(calls) <= 3:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return real_read(source)

    monkeypatch.setattr(ImageSource, "read", read)
    with pytest.raises(OSError, match="was unreadable for a moment"):
        make_batch(settings, assignment)
    batch = make_batch(settings, assignment)
    assert content(batch) == expected
    assert batch.unreadable == []


def test_manifest_holds_every_setting_that_the_content_depends_on(photographs, flat):
    """A new field of BatchSettings fails this test until the manifest has it."""
    changes = {
        "seed": 8,
        "batch_size": 5,
        "dtype": "float16",
        "statistics": STATISTICS._replace(std=(0.25, 0.3, 0.21)),
        "shorter_side_min": 43,
        "shorter_side_max": 71,
        "shorter_side_step": 14,
        "crop_size": 33,
        "flip_probability": 0.4,
        "colour_jitter_stddev": 0.2,
        "crop_size_schedule": ((1, 32),),
        "crop_method": "center",
        "crop_area": (0.1, 1.0),
        "crop_ratio": (0.5, 2.0),
        "trivial_augment": True,
        "erasing_probability": 0.1,
        "repeated_augmentation": 2,
        "sampling": "balanced",
        "rows": Rows(0, 2),
    }
    names = {field.name for field in dataclasses.fields(BatchSettings)} - {
        "augmentation"
    }
    names |= {field.name for field in dataclasses.fields(AugmentationConfig)}
    assert set(changes) == names
    manifest = make_settings().manifest(photographs)
    for name, value in changes.items():
        assert make_settings(**{name: value}).manifest(photographs) != manifest, name
    other_mean = STATISTICS._replace(mean=(0.45, 0.5, 0.41))
    assert make_settings(statistics=other_mean).manifest(photographs) != manifest
    assert make_settings().manifest(flat[0]) != manifest
    assert manifest["dataset_fingerprint"] == photographs.fingerprint
    assert {"format_version", "pillow_version"} <= set(manifest)
    assert make_settings().manifest(photographs) == manifest


SCHEDULE = ((1, 32), (3, 40))


def test_crops_of_an_epoch_have_its_size(photographs):
    """Before the first entry of the schedule it is crop_size, here 48."""
    sizes = {"crop_size": 48, "shorter_side_min": 48, "shorter_side_max": 62}
    settings = make_settings(**sizes, crop_size_schedule=SCHEDULE)
    plain = make_settings(**sizes)
    for epoch, size in ((0, 48), (1, 32), (2, 32), (3, 40), (9, 40)):
        position = Position(epoch, 1)
        batch = make_batch(settings, Assignments(photographs, settings)[position])
        assert batch.images.shape == (4, size, size, 3)
        params, full = batch_params(settings, position), batch_params(plain, position)
        assert {p.shorter_side for p in full} <= {48, 55, 62}
        # The same random numbers; only the image, and with it the crop, is smaller.
        assert params == [
            p._replace(shorter_side=p.shorter_side * size // 48) for p in full
        ]
        assert all(p.shorter_side >= size for p in params)


def test_a_smaller_crop_shows_the_same_part_of_its_image(photographs):
    """The full crop, shrunk, equals the smaller one except for rounding."""
    sizes = {"crop_size": 64, "shorter_side_min": 64, "shorter_side_max": 106}
    full = make(photographs, (0, 0), **sizes, dtype="uint8")
    small = make(
        photographs, (0, 0), **sizes, dtype="uint8", crop_size_schedule=((0, 32),)
    )
    shrunk = full.images.reshape(4, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_array_equal(full.labels, small.labels)
    assert np.abs(shrunk - small.images).mean() < 6 < np.ptp(shrunk)


def test_spec_of_smaller_crops(photographs, tmp_path):
    settings = make_settings(
        crop_size=36, dtype="float16", crop_size_schedule=((1, 32), (2, 34))
    )
    spec, buffer = settings.spec(photographs), BatchBuffer(tmp_path)
    assert spec == BatchSpec(4, 36, "float16", 3, ((1, 32), (2, 34)))
    assert spec.batch_bytes == BatchSpec(4, 36, "float16", 3).batch_bytes
    small = spec._replace(crop_size_schedule=((0, 32), (2, 34)))
    assert small.batch_bytes == BatchSpec(4, 34, "float16", 3).batch_bytes
    for epoch in range(4):
        position = Position(epoch, 0)
        made = make_batch(settings, Assignments(photographs, settings)[position])
        buffer.write(position, made.images, made.labels)
        assert buffer.read(position, spec).images.shape == made.images.shape
    with pytest.raises(BatchFileError, match=r"\[4, 32, 32, 3\], expected .*36, 36"):
        buffer.read(Position(1, 0), spec._replace(crop_size_schedule=()))


def test_spec_is_what_batches_look_like(photographs):
    settings = make_settings(dtype="float16")
    assert settings.spec(photographs) == BatchSpec(4, 32, "float16", 3)


def test_settings_from_config():
    config = read_config(SHIPPED)
    settings = BatchSettings.from_config(config)
    assert (settings.seed, settings.batch_size, settings.dtype) == (0, 64, "float16")
    assert settings.statistics.mean == config.dataset.channel_mean
    assert settings.statistics.std == config.dataset.channel_std
    assert settings.augmentation == config.augmentation


def test_uint8_batch_is_the_float16_batch_before_it_is_normalized(photographs):
    position = Position(2, 1)
    made = {}
    for dtype in ("uint8", "float16"):
        settings = make_settings(dtype=dtype)
        made[dtype] = make_batch(settings, Assignments(photographs, settings)[position])
    raw, ready = made["uint8"], made["float16"]
    assert ready.shifts is None
    np.testing.assert_array_equal(raw.labels, ready.labels)
    normalized = normalize_crops(raw.images, raw.shifts, STATISTICS).astype(np.float16)
    # Rounded twice, so the last bit of a float16 may differ.
    np.testing.assert_allclose(normalized, ready.images, rtol=2**-10, atol=2**-14)
    assert (normalized == ready.images).mean() > 0.99


def test_large_images_are_not_kept_beside_others(photographs, monkeypatch):
    """Four of the largest images that are allowed take more than a gigabyte."""
    expected, calls = content(make(photographs, (0, 1))), []
    for name in ("decode_part", "augment"):
        function = getattr(batches, name)
        monkeypatch.setattr(
            batches,
            name,
            lambda *a, name=name, do=function, **k: calls.append(name) or do(*a, **k),
        )
    assert content(make(photographs, (0, 1))) == expected
    assert calls == ["decode_part"] * 4 + ["augment"] * 4
    calls.clear()
    monkeypatch.setattr(batches, "_DECODED_PIXELS", 1)
    assert content(make(photographs, (0, 1))) == expected
    assert calls == ["decode_part", "augment"] * 4


def _spoil(dataset, index):
    """Empties the file of an image."""
    Path(str(dataset.sources([index])[0])).write_bytes(b"")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dtype": "uint8"},
        {"sampling": "balanced"},
        {"repeated_augmentation": 2, "trivial_augment": True},
        {"erasing_probability": 0.5, "crop_size_schedule": ((1, 24),)},
    ],
)
@pytest.mark.parametrize("num_hosts", [2, 3, 6])
def test_the_hosts_rows_are_those_of_the_whole_batch(photographs, changes, num_hosts):
    """Bitwise, for images, labels and shifts of every host."""
    changes |= {"batch_size": 6}
    for position in (0, 0), (0, 1), (1, 1):
        whole = make(photographs, position, **changes)
        size = 6 // num_hosts
        parts = [
            make(photographs, position, rows=Rows(r * size, (r + 1) * size), **changes)
            for r in range(num_hosts)
        ]
        for expected, *found in zip(whole[:3], *(part[:3] for part in parts)):
            if expected is None:
                assert found == [None] * num_hosts
            else:
                assert np.concatenate(found).tobytes() == expected.tobytes()


def test_an_unreadable_image_is_replaced_by_the_same_one_in_every_part(flat):
    """Also the last one of a part, whose replacement is in another host's part."""
    dataset, _ = flat
    order = epoch_order(25, 7, 0)
    for place in 1, 2, 5:
        _spoil(dataset, order[place])
    settings = {"batch_size": 6, "dtype": "uint8"}
    whole = make(dataset, (0, 0), **settings)
    parts = [make(dataset, (0, 0), rows=Rows(r, r + 2), **settings) for r in (0, 2, 4)]
    for expected, *found in zip(whole[:3], *(part[:3] for part in parts)):
        assert np.concatenate(found).tobytes() == expected.tobytes()
    assert {name for part in parts for name, _ in part.unreadable} == {
        name for name, _ in whole.unreadable
    }


def test_the_manifest_of_a_part_says_its_rows(flat):
    """That of a whole batch is as it was before there were parts."""
    dataset, _ = flat
    whole = make_settings().manifest(dataset)
    part = make_settings(rows=Rows(2, 4)).manifest(dataset)
    assert part == whole | {"rows": [2, 3]}
    assert make_settings(rows=Rows(2, 4)).spec(dataset).batch_size == 2
