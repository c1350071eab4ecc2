"""Folders that are deleted, replaced, unmounted, read-only and full."""

import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.disk_faults.disturbances import Row
from tests.disk_faults.rows import P, T
from tests.disk_faults.scenes import Scene, wait_until


def replaced(
    name: str,
    program: str,
    place: str,
    line: str,
    put: Callable[[Path], object] = lambda path: None,
    *,
    is_back: bool = False,
) -> Row:
    """A row in which a folder is moved away and something else is put there.

    At the end this is removed if it is no folder, and the folder returns if is_back.
    """

    def away(scene: Scene) -> tuple[Path, Path]:
        path = getattr(scene, place)
        return path, path.with_name(f"{path.name}-away")

    def begin(scene: Scene) -> None:
        path, other = away(scene)
        wait_until(path.exists, f"a {place} folder")
        path.rename(other)
        put(path)

    def end(scene: Scene) -> None:
        path, other = away(scene)
        if path.is_symlink() or path.is_file():
            path.unlink()
        if is_back:
            shutil.rmtree(path, ignore_errors=True)
            other.rename(path)
        else:
            shutil.rmtree(other)
            getattr(scene, place).parent.mkdir(parents=True, exist_ok=True)
            if place == "models":
                scene.models.mkdir(exist_ok=True)

    return Row(f"{place}: {name}", program, None, "said", line, begin, end)


def link_to_new_folder(path: Path) -> None:
    other = path.with_name(f"{path.name}-{time.monotonic_ns()}")
    other.mkdir()
    path.symlink_to(other)


def delete(path: Path) -> None:
    """Deletes a folder that both programs write into."""
    shutil.rmtree(path, ignore_errors=True)


_NO_FOLDER, _CREATED = "is no folder any more", "was deleted; created again"
_FOLDER_ABOVE, _CONTINUES = "so is the folder above it", "was deleted; the training"
_GONE, _CIRCLE = "cannot be made: none of the", "leads to itself"

FOLDERS = [
    Row("buffer: deleted", P, None, "said", _CREATED,
        lambda scene: delete(scene.buffer)),
    replaced("moved away", P, "buffer", _CREATED),
    replaced("replaced by an empty folder", P, "buffer", _CREATED, Path.mkdir),
    replaced("replaced by a file", P, "buffer", _NO_FOLDER, Path.touch),
    replaced("replaced by a file", T, "buffer", _NO_FOLDER, Path.touch),
    replaced("replaced by a link to a folder", P, "buffer", _CREATED,
             link_to_new_folder),
    replaced("replaced by a broken link", P, "buffer", _FOLDER_ABOVE,
             lambda path: path.symlink_to("nowhere/at/all")),
    replaced("replaced by a link to itself", P, "buffer", _CIRCLE,
             lambda path: path.symlink_to(path)),
    replaced("replaced by a link to itself", T, "buffer", _CIRCLE,
             lambda path: path.symlink_to(path)),
    Row("run: deleted", T, None, "said", _CREATED, lambda scene: delete(scene.run)),
    replaced("moved away", T, "run", _CREATED),
    replaced("replaced by an empty folder", T, "run", _CREATED, Path.mkdir),
    replaced("replaced by a file", T, "run", _NO_FOLDER, Path.touch),
    replaced("replaced by a link to a folder", T, "run", _CREATED,
             link_to_new_folder),
    replaced("replaced by a broken link", T, "run", _FOLDER_ABOVE,
             lambda path: path.symlink_to("nowhere/at/all")),
    replaced("replaced by a link to itself", T, "run", _CIRCLE,
             lambda path: path.symlink_to(path)),
    replaced("moved away", T, "models", _FOLDER_ABOVE),
    replaced("moved away for a while", P, "images", _GONE, is_back=True),
    replaced("replaced by an empty folder for a while", P, "images", _GONE,
             Path.mkdir, is_back=True),
    replaced("replaced by a file for a while", P, "images", _GONE,
             Path.touch, is_back=True),
]  # fmt: skip

# Real disks: a tmpfs for each folder.

_MOUNTED = ("buffer", "models", "images")


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def disk_of(scene: Scene, place: str) -> Path:
    return scene.folder / f"disk-{place}"


def mount_disks(scene: Scene) -> None:
    """Puts each folder on a disk of its own."""
    for place in _MOUNTED:
        disk, path = disk_of(scene, place), getattr(scene, place)
        disk.mkdir()
        mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", disk)
        if path.exists():
            shutil.copytree(path, disk, dirs_exist_ok=True, symlinks=True)
            shutil.rmtree(path)
        path.mkdir()
        mount("--bind", disk, path)


def unmounted(program: str, place: str, line: str) -> Row:
    def begin(scene: Scene) -> None:
        subprocess.run(["umount", "-l", getattr(scene, place)], check=True)

    def end(scene: Scene) -> None:
        mount("--bind", disk_of(scene, place), getattr(scene, place))

    return Row(f"{place}: unmounted", program, None, "said", line, begin, end)


def read_only(program: str, place: str) -> Row:
    line = os.strerror(errno.EROFS)

    def begin(scene: Scene) -> None:
        path = getattr(scene, place)
        mount("--bind", disk_of(scene, place), path)
        mount("-o", "remount,ro,bind", path)

    def end(scene: Scene) -> None:
        subprocess.run(["umount", "-l", getattr(scene, place)], check=True)

    return Row(f"{place}: read-only", program, None, "said", line, begin, end)


def full(program: str, place: str) -> Row:
    """Another program fills the disk, again and again: the trainer makes room."""
    is_over, threads = threading.Event(), []

    def keep_full(ballast: Path) -> None:
        with ballast.open("wb", buffering=0) as file:
            while not is_over.is_set():
                try:
                    file.write(bytes(4096))
                except OSError:
                    time.sleep(0.001)
        ballast.unlink()

    def begin(scene: Scene) -> None:
        is_over.clear()
        ballast = disk_of(scene, place) / "ballast"
        threads.append(threading.Thread(target=keep_full, args=(ballast,)))
        threads[-1].start()

    def end(scene: Scene) -> None:
        is_over.set()
        threads.pop().join()

    line = os.strerror(errno.ENOSPC)
    return Row(f"{place}: full", program, None, "said", line, begin, end)


MOUNTS = [
    unmounted(P, "buffer", "is on another disk than before"),
    unmounted(T, "buffer", "is on another disk than before"),
    read_only(P, "buffer"),
    read_only(T, "buffer"),
    full(P, "buffer"),
    unmounted(T, "models", "is on another disk than before"),
    read_only(T, "models"),
    full(T, "models"),
    unmounted(P, "images", _GONE),
]
