"""Proves that archives on a server make the batches of the same files on the disk."""

import os
import time
from concurrent.futures import wait

import numpy as np
import pytest

from resnet50.dataset.decoding import UndecodableImageError, read_image
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.remote import members, store
from resnet50.dataset.remote.archives import expand
from resnet50.dataset.remote.image_cache import CacheSettings
from resnet50.dataset.remote.store import StoreAwayError
from resnet50.dataset.sources import reading_ahead
from tests.dataset.folders import message_of
from tests.dataset.layout_examples import (
    CLASSES,
    class_tars,
    list_of,
    make_images,
    shuffled,
    tar_of,
    write_files,
)
from tests.dataset.remote.servers import IMPATIENT
from tests.dataset.test_layouts import all_batches, webdataset

IMAGES = make_images()


def shards(files):
    half = len(files) // 2
    return {
        f"train-{number:02}.tar": tar_of(part)
        for number, part in enumerate((files[:half], files[half:]))
    }


# The files on the server, and the end of the URL.
LAYOUTS = {
    "official archive": (
        {"ILSVRC2012_img_train.tar": tar_of(class_tars(IMAGES))},
        "ILSVRC2012_img_train.tar",
    ),
    "archive of class folders": ({"a.tar": tar_of(shuffled(IMAGES))}, "a.tar?sig=x"),
    "archives of classes": (dict(class_tars(IMAGES)), f"{{{','.join(CLASSES)}}}.tar"),
    "shards": (shards(shuffled(IMAGES)), "train-{00..01}.tar"),
    "WebDataset's shards": (shards(webdataset(IMAGES)), "train-{00..01}.tar"),
}


def url_on(server, layout):
    files, end = LAYOUTS[layout]
    server.files = dict(files)
    return f"{server.url}/{end}"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    dataset = open_dataset(
        write_files(tmp_path_factory.mktemp("reference"), IMAGES), None
    )
    return dataset, all_batches(dataset)


def require_equal(dataset, reference):
    expected, expected_batches = reference
    assert dataset.fingerprint == expected.fingerprint
    assert dataset.class_names == CLASSES
    for batch, wanted in zip(all_batches(dataset), expected_batches):
        assert batch.unreadable == []
        np.testing.assert_array_equal(batch.images, wanted.images)
        np.testing.assert_array_equal(batch.labels, wanted.labels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_server_makes_the_batches_of_the_disk(server, tmp_path, reference, layout):
    url = url_on(server, layout)
    # A request has four tries, so that one alone may get all three.
    server.faults = ["503", "", "cut", "", "hang up"]
    dataset = open_dataset(url, None, (), tmp_path)
    require_equal(dataset, reference)
    # Once more from the index: the archives' versions are requested, and no more.
    server.requests.clear()
    again = open_dataset(url, None, (), tmp_path)
    assert len(server.requests) == len(server.files)
    require_equal(again, reference)
    assert str(again.sources([0])[0]).endswith(f"/{CLASSES[0]}_10.JPEG")
    assert "sig" not in f"{again.sources([0])[0]} {again.summary}"


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_a_folder_of_an_object_store(tmp_path, reference, protocol):
    fsspec = pytest.importorskip("fsspec")
    root = f"{protocol}://{tmp_path}"
    for name, content in LAYOUTS["shards"][0].items():
        with fsspec.open(f"{root}/{name}", "wb") as file:
            file.write(content)
    with fsspec.open(f"{root}/val-00.tar", "wb") as file:
        file.write(tar_of(shuffled(IMAGES)))
    index = tmp_path / "index"
    index.mkdir()
    require_equal(open_dataset(root, None, (), index), reference)
    with fsspec.open(f"{root}/train-02.tar", "wb") as file:
        file.write(tar_of([(f"{CLASSES[0]}/z.JPEG", b"new")]))
    assert open_dataset(root, None, (), index).num_images == len(IMAGES) + 1


def test_an_index_is_valid_as_long_as_the_versions(server, tmp_path):
    url = url_on(server, "shards")
    first = open_dataset(url, None, (), tmp_path)
    files = shuffled(IMAGES)
    server.files = shards([*files[1:], files[0]])
    assert open_dataset(url, None, (), tmp_path).fingerprint == first.fingerprint
    contents = [
        read_image(x) for x in open_dataset(url, None, (), tmp_path).sources(range(12))
    ]
    assert contents == list(IMAGES.values())
    # The first listing's locations are now wrong, and each image says so.
    with pytest.raises(UndecodableImageError, match="the archive has changed"):
        for source in first.sources(range(12)):
            read_image(source)


def test_an_index_holds_no_secrets_and_outlives_them(server, tmp_path):
    url = url_on(server, "shards").replace("://", "://me:secret@") + "?X-Sig=secret"
    first = open_dataset(url, None, (), tmp_path)
    (index,) = tmp_path.glob("dataset_index_*")
    with np.load(index) as arrays:
        assert not any(b"secret" in arrays[name].tobytes() for name in arrays)
    server.requests.clear()
    again = open_dataset(url.replace("secret", "renewed"), None, (), tmp_path)
    assert len(server.requests) == 2  # The versions, and no header of a member.
    assert again.fingerprint == first.fingerprint
    assert "?X-Sig=renewed" in again.sources([0])[0].path
    assert "//me:renewed@" in again.sources([0])[0].path


def test_an_index_is_of_no_use_if_urls_differ_only_in_their_queries(server, tmp_path):
    server.files["a1.tar"] = tar_of(shuffled(IMAGES))
    url = f"{server.url}/a1.tar?part={{1,2}}"
    for _ in range(2):
        sources = open_dataset(url, None, (), tmp_path).sources(range(24))
        assert {x.path[-1] for x in sources} == {"1", "2"}


def test_a_server_that_is_away_is_tried_only_once(server, tmp_path):
    url = url_on(server, "shards")
    open_dataset(url, None, (), tmp_path)
    server.always = "503"
    server.requests.clear()
    with pytest.raises(StoreAwayError):
        open_dataset(url, None, (), tmp_path)
    assert len(server.requests) <= 2 * (len(IMPATIENT.pauses) + 1)


def test_images_of_a_server_that_is_away_are_not_unreadable(server, reference):
    url = url_on(server, "shards")
    dataset = open_dataset(url, None)
    server.always = "503"
    with pytest.raises(StoreAwayError, match="503 Service Unavailable"):
        all_batches(dataset)
    server.always = ""
    del server.files["train-01.tar"]
    (batch,) = all_batches(dataset)[:1]
    assert {reason for _, reason in batch.unreadable} == {"is not there: 404 Not Found"}


def test_requests_are_made_ahead_and_bounded(server, monkeypatch):
    monkeypatch.setattr(members, "_NUM_AHEAD", 3)
    monkeypatch.setattr(store, "PATIENCE", store.Patience())
    url = url_on(server, "shards")
    dataset = open_dataset(url, None)
    sources = dataset.sources(range(12))
    server.requests.clear()
    with reading_ahead(sources):
        while len(server.requests) < 3:
            time.sleep(0.01)
        assert read_image(sources[0]) == next(iter(IMAGES.values()))
        while len(server.requests) < 4:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(server.requests) == 4
        # In another order, and twice.
        for source in sources[::-1] + sources:
            read_image(source)
    monkeypatch.setattr(members, "_BYTES_AHEAD", 1)
    server.requests.clear()
    with reading_ahead(sources):
        while not server.requests:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(server.requests) == 1


def test_requests_that_nobody_waits_for_end(server, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", IMPATIENT._replace(pauses=(300,)))
    dataset = open_dataset(url_on(server, "shards"), None)
    server.always = "503"
    server.requests.clear()
    with reading_ahead(dataset.sources(range(12))):
        futures = members._of_thread.window._requested.values()
        while not server.requests:
            time.sleep(0.01)
    assert not wait(futures, timeout=100).not_done


def test_headers_are_read_and_images_are_not(server):
    large = [(f"{CLASSES[i % 3]}/{i}.JPEG", bytes(60_000)) for i in range(40)]
    server.files["train-00.tar"] = tar_of(large)
    small = [(f"{CLASSES[i % 3]}/{i + 40}.JPEG", bytes(600)) for i in range(400)]
    server.files["train-01.tar"] = tar_of(small)
    open_dataset(f"{server.url}/train-{{00..01}}.tar", None)
    sizes = {"train-00.tar": [], "train-01.tar": []}
    for path, first, last in server.requests:
        sizes[path].append(last + 1 - first)
    assert sum(sizes["train-00.tar"]) < 40 * 60_000 / 8
    assert len(sizes["train-01.tar"]) < 12


def test_lists_label_the_images_of_a_server(server, tmp_path, reference):
    url = url_on(server, "shards")
    path = tmp_path / "train.txt"
    path.write_text(list_of(IMAGES))
    require_equal(open_dataset(url, path), reference)
    flat = [(name[10:], content) for name, content in IMAGES.items()]
    server.files = {"val.tar": tar_of(flat)}
    assert message_of(open_dataset, f"{server.url}/val.tar", None, CLASSES) == (
        f"{server.url}/val.tar: images without class folders (name the list of their "
        "labels as validation_list in [dataset] of config.txt)"
    )


def test_urls_with_braces():
    assert expand("s3://b/a-{08..11}.tar") == [
        f"s3://b/a-{number}.tar" for number in ("08", "09", "10", "11")
    ]
    assert expand("h://{a,b}/{1..2}") == ["h://a/1", "h://a/2", "h://b/1", "h://b/2"]
    assert expand("h://a/b.tar") == ["h://a/b.tar"]
    for url in ("h://{0..999999999}.tar", "h://{5..4}.tar", "h://{0..999}{0..999}"):
        assert "stands for no URL, or for more than 100,000" in message_of(expand, url)


def test_unusable_urls_are_one_line(server, tmp_path):
    assert message_of(open_dataset, f"{server.url}/train", None) == (
        f"{server.url}/train: is no .tar, and HTTP cannot list a folder (name the "
        "archives: https://host/train-{0000..1023}.tar)"
    )
    assert message_of(open_dataset, f"{server.url}/a.tar", None) == (
        f"{server.url}/a.tar: is not there: 404 Not Found"
    )
    server.files["a.tar"] = tar_of(shuffled(IMAGES))[:100_000]
    assert "a.tar: is cut off: " in message_of(
        open_dataset, f"{server.url}/a.tar", None
    )
    pytest.importorskip("fsspec")
    (tmp_path / "a.JPEG").touch()
    assert message_of(open_dataset, f"file://{tmp_path}", None) == (
        f"file://{tmp_path}: holds no .tar (single images are not read from a server: "
        "pack them into archives, of about 150 MB)"
    )


def test_a_cache_makes_the_same_batches_without_the_server(server, tmp_path, reference):
    url = url_on(server, "shards")
    cache = CacheSettings(str(tmp_path / "cache"), 10**9)
    dataset = open_dataset(url, None, cache=cache)
    require_equal(dataset, reference)
    server.always = "503"
    require_equal(dataset, reference)
    # Any damage costs only a request.
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 2
    damaged = bytearray(files[0].read_bytes())
    damaged[10_000::5000] = b"x" * len(damaged[10_000::5000])
    files[0].write_bytes(damaged)
    os.truncate(files[1], 3000)
    with pytest.raises(StoreAwayError):
        all_batches(dataset)
    server.always = ""
    require_equal(dataset, reference)
    server.always = "503"
    require_equal(dataset, reference)
