"""Finds archives behind HTTP or on an object store, and the images in them.

A URL may stand for many: ``train-{000..146}.tar`` counts and ``{train,extra}.tar``
chooses, as in WebDataset and in a shell. Only object stores can list a folder.

Only the archives' headers are read, of many archives at a time, because each header
says where the next one is.
"""

import contextlib
import hashlib
import re
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, cast

from resnet50.dataset.archives.archive_datasets import TarArchive
from resnet50.dataset.archives.tar_index import (
    Entry,
    inner_folder,
    is_visible,
    members,
)
from resnet50.dataset.images import DatasetError
from resnet50.dataset.remote.fsspec_store import FsspecStore
from resnet50.dataset.remote.range_file import RangeFile
from resnet50.dataset.remote.store import (
    ObjectInfo,
    abandon_when,
    describe_object,
    open_store,
    with_retries,
)
from resnet50.urls import is_archive, shown_url, stem_of

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})")

# Whoever writes {0..999999999} by mistake gets an error and keeps the memory.
_MAX_URLS = 100_000

# Archives whose headers are read at a time. Python needs a core for about as many.
_NUM_THREADS = 32

_SECONDS_BETWEEN_LINES = 10.0


def _choices(braces: str) -> list[str]:
    if found := _RANGE.fullmatch(braces):
        first, last = found.groups()
        numbers = range(int(first), min(int(last), int(first) + _MAX_URLS) + 1)
        return [f"{number:0{len(first)}}" for number in numbers]
    return braces.split(",")


def expand(url: str) -> list[str]:
    """Returns the URLs that a URL with braces stands for, in order.

    Raises:
        DatasetError: They are none, or too many.
    """
    found = _BRACES.search(url)
    if not found:
        return [url]
    before, after = url[: found.start()], url[found.end() :]
    ends = expand(after)
    choices = _choices(found[1])
    if not 0 < len(choices) * len(ends) <= _MAX_URLS:
        raise DatasetError(
            f"{shown_url(url)}: stands for no URL, or for more than {_MAX_URLS:,} "
            "(expected a range such as {0000..1023}, or a choice such as {a,b})"
        )
    return [before + choice + end for choice in choices for end in ends]


@contextlib.contextmanager
def _missing_named(url: str) -> Iterator[None]:
    """Names an object that is not there; StoreAwayError names its URL itself."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise DatasetError(f"{shown_url(url)}: {error.strerror}") from None


def _describe(url: str) -> tuple[str, ObjectInfo]:
    with _missing_named(url):
        return url, describe_object(url)


@contextlib.contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Yields threads, whose requests end with the block."""
    abandoned = threading.Event()
    with ThreadPoolExecutor(
        _NUM_THREADS, initializer=abandon_when, initargs=(abandoned,)
    ) as pool:
        try:
            yield pool
        finally:
            abandoned.set()
            pool.shutdown(wait=False, cancel_futures=True)


def find_archives(url: str) -> dict[str, ObjectInfo]:
    """Finds the archives that a setting names, by URL in order.

    Raises:
        DatasetError: There are none, or one is not there.
        UserError: A server does not answer, or a package is missing.
    """
    urls = expand(url)
    if len(urls) == 1 and not is_archive(url):
        store = open_store(url)
        if not isinstance(store, FsspecStore):
            raise DatasetError(
                f"{shown_url(url)}: is no .tar, and HTTP cannot list a folder (name "
                "the archives: https://host/train-{0000..1023}.tar)"
            )
        with _missing_named(url):
            found = with_retries(url, lambda: store.objects(url))
        archives = {x: info for x, info in sorted(found.items()) if is_archive(x)}
        if not archives:
            raise DatasetError(
                f"{shown_url(url)}: holds no .tar (single images are not read from a "
                "server: pack them into archives, of about 150 MB)"
            )
        return archives
    for each in urls:
        if not is_archive(each):
            raise DatasetError(f"{shown_url(each)}: is no .tar (name archives)")
    with _threads() as pool:
        return dict(pool.map(_describe, urls))


def stamp_of_archives(archives: dict[str, ObjectInfo]) -> tuple[int, int]:
    """Returns a digest of URLs, sizes and versions of archives, and their number."""
    text = "".join(f"{shown_url(u)}\0{info}\0" for u, info in archives.items())
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:7], "little"), len(archives)


class _Progress:
    """Says from time to time how many images have been found."""

    def __init__(self, where: str, notify: Callable[[str], None]):
        self._where, self._notify = where, notify
        self._lock = threading.Lock()
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
        self._num_files = 0

    def add(self) -> None:
        """Counts a file."""
        with self._lock:
            self._num_files += 1
            if time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
                self._notify(f"{self._where}: {self._num_files:,} files found so far")


def _walk(
    url: str, size: int, start: int, end: int, progress: _Progress
) -> list[Entry]:
    """Lists the files in an archive, or in the part of it that is an inner one."""
    file = RangeFile(url, size)
    file.seek(start)
    entries = []
    with _missing_named(url):
        for entry in members(shown_url(url), cast(BinaryIO, file), end):
            file.seek(entry.offset - tarfile.BLOCKSIZE)
            header = zlib.crc32(file.read(tarfile.BLOCKSIZE))
            entries.append(entry._replace(header=header))
            progress.add()
    return entries


@contextlib.contextmanager
def listed(
    where: str, archives: dict[str, ObjectInfo], notify: Callable[[str], None]
) -> Iterator[list[TarArchive]]:
    """Lists the files in archives, and in the tar archives in them.

    Yields the archives; the entries of each may be iterated over once, in the block.
    They raise DatasetError if an archive cannot be used, and UserError if its server
    does not answer.
    """
    progress = _Progress(where, notify)
    with _threads() as pool:

        def entries_of(url: str, size: int, future: Future) -> Iterable[Entry]:
            outer = future.result()
            inner = {
                entry: pool.submit(
                    _walk, url, size, entry.offset, entry.offset + entry.size, progress
                )
                for entry in outer
                if inner_folder(entry)
            }
            for entry in outer:
                found = inner[entry].result() if entry in inner else [entry]
                for each in found:
                    each = each._replace(name=inner_folder(entry) + each.name)
                    if is_visible(each):
                        yield each

        futures = {
            url: pool.submit(_walk, url, info.size, 0, info.size, progress)
            for url, info in archives.items()
        }
        yield [
            TarArchive(
                url,
                stem_of(url),
                entries_of(url, archives[url].size, future),
                archives[url].version,
            )
            for url, future in futures.items()
        ]
