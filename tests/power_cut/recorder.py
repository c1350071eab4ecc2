"""Records what programs do to the files of a folder, with strace.

strace needs no root, and also sees what TensorFlow writes from C++. The folder's files
must be local and written with system calls; a writable mapping is an error, because its
stores are invisible.
"""

import codecs
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.settings import PROJECT

# Calls that change files, and lseek, which says where the next write goes.
_CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,truncate,ftruncate,"
    "fallocate,fsync,fdatasync,sync,syncfs,sync_file_range,rename,renameat,renameat2,"
    "unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,mmap,sendfile,"
    "copy_file_range,splice"
)
_MOST_BYTES = 2**22  # in one write

_LINE = re.compile(rb"(\d+) +(.*)", re.DOTALL)
_UNFINISHED = b" <unfinished ...>"
_RESUMED = re.compile(rb"<\.\.\. \w+ resumed>")
_CALL = re.compile(
    rb"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>0x\w+|-?\d+|\?)"
    rb"(?:<(?P<path>(?:[^>\\]|\\.)*)>)?(?:\(deleted\))?(?: .*)?",
    re.DOTALL,
)
_DESCRIPTOR = re.compile(rb"(?:AT_FDCWD|-?\d+)(?:<((?:[^>\\]|\\.)*)>)?")
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"(\.\.\.)?', re.DOTALL)


class Operation(NamedTuple):
    """One successful change of a file or folder, or "say", an output of a program."""

    kind: str  # create, write, truncate, fsync, rename, unlink, mkdir, rmdir, say
    path: str  # below the recorded folder; of a program's output: the file's name
    target: str = ""  # of a rename
    offset: int = 0  # of a write; -1: at the file's end
    size: int = 0  # of a truncation
    data: bytes = b""  # of a write or an output

    def __str__(self) -> str:
        text = self.data.decode(errors="replace").strip() if self.kind == "say" else ""
        return " ".join(filter(None, [self.kind, self.path, self.target, text]))


class RecorderError(Exception):
    """strace is missing or refused, or a program did what cannot be recorded."""


def is_usable() -> bool:
    """Whether strace is installed, and the system lets it trace a program."""
    command = "strace", "-f", "--seccomp-bpf", "-o", os.devnull, "true"
    try:
        return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        return False


def record(folder: Path, module: str, *arguments: str) -> list[Operation]:
    """Runs a module under strace; returns what it did below folder/work.

    What is written to files below folder/logs becomes operations of kind "say".

    Raises:
        RecorderError: See there; or the module failed.
    """
    log = folder / "strace"
    command = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-y",
        f"-etrace={_CALLS}",
        "-esignal=none",
    ]
    command += ["-o", str(log), "-s", str(_MOST_BYTES), sys.executable, "-m", module]
    try:
        done = subprocess.run(
            [*command, *arguments], cwd=PROJECT, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        raise RecorderError("strace is not installed") from None
    if done.returncode:
        raise RecorderError(done.stderr.strip())
    with log.open("rb") as lines:
        return list(parse(lines, folder))


def _calls(lines: Iterator[bytes]) -> Iterator[re.Match]:
    """Finished calls, in the order in which they returned."""
    unfinished: dict[bytes, bytes] = {}
    for line in lines:
        process, text = _LINE.fullmatch(line.rstrip(b"\n")).groups()
        if text.endswith(_UNFINISHED):
            unfinished[process] = text.removesuffix(_UNFINISHED)
            continue
        if resumed := _RESUMED.match(text):
            text = unfinished.pop(process) + text[resumed.end() :]
        if text.startswith(b"+++"):
            continue
        call = _CALL.fullmatch(text)
        if call is None:
            raise RecorderError(f"strace printed {text[:300]!r}")
        if not call["result"].startswith((b"-", b"?")):
            yield call


def _unescape(text: bytes) -> bytes:
    return codecs.escape_decode(text)[0]


def _strings(arguments: bytes) -> list[bytes]:
    found = []
    for text, rest in _STRING.findall(arguments):
        if rest:
            raise RecorderError(f"a write of more than {_MOST_BYTES} bytes")
        found.append(_unescape(text))
    return found


def _paths(arguments: bytes) -> list[str]:
    """The paths of a call: each name, relative to the folder before it."""
    found, position = [], 0
    for string in _STRING.finditer(arguments):
        folders = _DESCRIPTOR.findall(arguments, position, string.start())
        folder = _unescape(folders[-1]) if folders else b""
        found.append(str(Path((folder).decode()) / _unescape(string[1]).decode()))
        position = string.end()
    return found


def parse(lines: Iterator[bytes], folder: Path) -> Iterator[Operation]:
    """Turns strace's lines into operations on the files below folder/work.

    Raises:
        RecorderError: A program did what cannot be recorded.
    """
    work, logs = f"{folder}/work", f"{folder}/logs/"

    def inside(path: str) -> str:
        """A path below the folder work, "." for itself, or "" for any other path."""
        if path == work:
            return "."
        return path.removeprefix(f"{work}/") if path.startswith(f"{work}/") else ""

    offsets: dict[str, int] = {}  # of each file that is open for writing
    for call in _calls(lines):
        name, arguments = call["name"].decode(), call["arguments"]
        if f"{folder}".encode() not in call[0]:
            continue
        result = int(call["result"], 0)
        if name in _COPIES and work.encode() in arguments:
            raise RecorderError(f"cannot be recorded: {call[0][:300]!r}")
        if name in ("open", "openat", "creat"):
            inner = inside(_unescape(call["path"] or b"").decode())
            is_writing = re.search(rb"O_(WRONLY|RDWR)", arguments) or name == "creat"
            if not inner or not is_writing:
                continue
            offsets[inner] = -1 if b"O_APPEND" in arguments else 0
            if b"O_CREAT" in arguments or name == "creat":
                yield Operation("create", inner)
            if b"O_TRUNC" in arguments or name == "creat":
                yield Operation("truncate", inner)
            continue
        descriptor = _DESCRIPTOR.match(arguments)
        if descriptor and descriptor[1] and name not in _OF_PATHS:
            path = _unescape(descriptor[1]).decode()
            if path.startswith(logs) and "write" in name:
                data = b"".join(_strings(arguments))[:result]
                yield Operation("say", path.removeprefix(logs), data=data)
            if inner := inside(path):
                yield from _of_open_file(name, inner, arguments, result, offsets)
        elif name in _OF_PATHS:
            paths = _paths(arguments)
            inner = [found for path in paths if (found := inside(path))]
            if not inner:
                continue
            kind = _OF_PATHS[name]
            if b"AT_REMOVEDIR" in arguments:
                kind = "rmdir"
            if kind is None or len(inner) != len(paths) or b"RENAME_" in arguments:
                raise RecorderError(f"cannot be recorded: {call[0][:300]!r}")
            yield Operation(kind, *inner)
        elif name == "mmap" and all(
            word in arguments for word in (b"MAP_SHARED", b"PROT_WRITE", work.encode())
        ):
            raise RecorderError(f"a writable mapping: {call[0][:300]!r}")


_COPIES = {"sendfile", "copy_file_range", "splice"}

# Calls with paths, and their kinds of operation; None: not supported.
_OF_PATHS = {
    "rename": "rename",
    "renameat": "rename",
    "renameat2": "rename",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "rmdir": "rmdir",
    "mkdir": "mkdir",
    "mkdirat": "mkdir",
    "truncate": None,
    "link": None,
    "linkat": None,
    "symlink": None,
    "symlinkat": None,
}


def _of_open_file(
    name: str, path: str, arguments: bytes, result: int, offsets: dict[str, int]
) -> Iterator[Operation]:
    """The operation of a call whose first argument is an open file or folder."""
    if name in ("write", "writev"):
        data, offset = b"".join(_strings(arguments))[:result], offsets[path]
        yield Operation("write", path, offset=offset, data=data)
        if offset >= 0:
            offsets[path] += result
    elif name == "pwrite64":
        offset = int(arguments.rsplit(b",", 1)[1])
        data = b"".join(_strings(arguments))[:result]
        yield Operation("write", path, offset=offset, data=data)
    elif name == "lseek":
        if offsets.get(path, -1) >= 0:
            offsets[path] = result
    elif name == "ftruncate":
        yield Operation("truncate", path, size=int(arguments.rsplit(b",", 1)[1]))
    elif name in ("fsync", "fdatasync"):
        yield Operation("fsync", path)
    else:
        raise RecorderError(f"{name} of {path} cannot be recorded")
