"""Proves that the cache is bounded, shared, and stops when it cannot write."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resnet50.dataset.remote import image_cache
from resnet50.dataset.remote.image_cache import (
    CachedImage,
    CacheSettings,
    ImageCache,
    used_bytes,
)

URL = "https://host/a.tar?sig=1"


def image_at(index, version="1"):
    return CachedImage(URL, version, 512 + index * 20_480, 20_000, header=index)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "_SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr(image_cache, "_SHARE", 8)
    return CacheSettings(str(tmp_path / "cache"), 1_000_000)


def test_images_stay_and_new_ones_do_not_displace_them(settings):
    caches = [ImageCache(settings) for _ in range(3)]  # As of three processes.
    contents = {index: os.urandom(20_000) for index in range(100)}
    for index, content in contents.items():
        caches[index % 3].put(image_at(index), content)
    found = {index: caches[0].get(image_at(index)) for index in contents}
    num_kept = sum(content is not None for content in found.values())
    assert num_kept >= 30
    assert list(found.values())[:30] == list(contents.values())[:30]
    assert used_bytes(settings.folder) <= settings.max_bytes
    caches[0].put(image_at(99), contents[99])
    assert caches[1].get(image_at(99)) is None


def test_another_image_or_version_is_not_the_same(settings):
    cache = ImageCache(settings)
    cache.put(image_at(3), bytes(20_000))
    assert cache.get(image_at(3)._replace(archive="https://host/a.tar?sig=2"))
    assert cache.get(image_at(3)._replace(header=4)) is None
    assert cache.get(image_at(3)._replace(size=19_999)) is None
    assert cache.get(image_at(3, version="2")) is None
    cache.put(image_at(3, version="2"), b"2" * 20_000)
    assert cache.get(image_at(3, version="2")) == b"2" * 20_000
    assert len(list(Path(settings.folder).iterdir())) == 1


def test_a_write_that_was_interrupted_is_a_miss(settings, monkeypatch):
    cache = ImageCache(settings)
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda f, data, at: write(f, data[:9000], at))
    cache.put(image_at(0), b"a" * 20_000)
    cache.put(image_at(1), b"a" * 20_000)
    assert cache.get(image_at(0)) is None
    monkeypatch.undo()
    cache.put(image_at(0), b"b" * 20_000)
    assert cache.get(image_at(0)) == b"b" * 20_000


def test_a_full_disk_stops_the_cache_with_one_line(settings, monkeypatch, capsys):
    caches = [ImageCache(settings), ImageCache(settings)]
    caches[0].put(image_at(0), bytes(20_000))

    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", fail)
    for cache in caches:
        for index in range(1, 4):
            cache.put(image_at(index), bytes(20_000))
    assert capsys.readouterr().err == (
        f"{settings.folder}: cannot be written: No space left on device; images are "
        "cached again in 10 minutes (see [dataset] cache_folder)\n"
    )
    assert caches[1].get(image_at(0)) == bytes(20_000)
    monkeypatch.undo()
    caches[0].put(image_at(5), bytes(20_000))
    assert caches[0].get(image_at(5)) is None
    monkeypatch.setattr(image_cache, "_LEFT_FREE", 2**60)
    other = ImageCache(settings)
    other.put(image_at(6), bytes(20_000))
    assert other.get(image_at(6)) is None


def test_a_file_in_place_of_the_folder_takes_no_images(tmp_path):
    """The cache says so itself when it first writes; the training continues."""
    path = tmp_path / "cache"
    path.write_text("a file")
    assert used_bytes(str(path)) == 0


def test_many_threads_on_a_read_only_disk_say_so_once(settings, monkeypatch, capsys):
    """No process can leave a mark there for the others."""

    def refuse(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    cache = ImageCache(settings)
    assert cache._takes(1)  # Room for all images.
    cache._open = refuse
    monkeypatch.setattr(Path, "touch", refuse)
    together = threading.Barrier(8)
    stop = cache._stop

    def stop_together(error):
        together.wait(10)
        stop(error)

    monkeypatch.setattr(cache, "_stop", stop_together)
    with ThreadPoolExecutor(8) as pool:
        for index in range(8):
            pool.submit(cache.put, image_at(index), bytes(1000))
    assert capsys.readouterr().err.count("Read-only file system") == 1
