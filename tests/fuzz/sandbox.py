"""Processes inputs in a child process that may not hang, grow or write elsewhere.

The child makes each input itself from (seed, target, index). It lies in a folder that
holds nothing else, and an audit hook reports every path that Python opens for writing
outside this folder, opens for reading anywhere but in Python's own folders, and every
program that it starts. The parent ends a child that takes too long.
"""

import ctypes
import dataclasses
import faulthandler
import json
import math
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from resnet50.dataset.decoding import UndecodableImageError
from resnet50.errors import UserError
from tests.fuzz.mutators import mutate

LIMIT_SECONDS = 10.0
LIMIT_BYTES = 2 * 2**30

# Above the limit, so that what is over the limit is measured, not refused.
_MORE_BYTES = 2 * 2**30

# Characters of a line.
_MAX_MESSAGE = 4_000

# A child is replaced by a new one after so many inputs. After the first ones it may not
# grow by more than so much.
_INPUTS_OF_A_CHILD = 500
_WARM_INPUTS = 50
_MAX_GROWTH_BYTES = 200 * 2**20

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of input.

    Attributes:
        name: For the command line.
        seeds: Makes valid inputs, and others to try as they are.
        process: Uses an input as a program does. Gets an empty folder and the bytes.
            Raises nothing or a named error.
        mutator: Makes an input from the seeds.
        place: Makes the folder's content before ``process`` is watched.
        reads_outside: Whether the input may name any file of the user.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    process: Callable[[Path, bytes], object]
    mutator: Callable[[random.Random, Sequence[bytes]], bytes] = mutate
    place: Callable[[Path, bytes], object] = lambda folder, data: None
    reads_outside: bool = False


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of an input."""

    index: int
    outcome: str  # "accepted", "refused" or "defect"
    text: str = ""  # the message, or what is wrong
    peak_bytes: int = 0
    seconds: float = 0.0


def make_input(target: Target, seeds: list[bytes], seed: int, index: int) -> bytes:
    """The seeds come first, as they are."""
    if index < len(seeds):
        return seeds[index]
    return target.mutator(random.Random(f"{seed} {target.name} {index}"), seeds)


class _Watch:
    """The audit hook: notes what a program must not do while it handles an input."""

    _WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    _CHANGES = frozenset(
        [
            "os.mkdir",
            "os.rename",
            "os.remove",
            "os.rmdir",
            "os.link",
            "os.symlink",
            "os.truncate",
            "os.chmod",
            "os.chown",
            "os.utime",
        ]
    )
    _PROGRAMS = frozenset(
        [
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "os.posix_spawn",
            "os.spawn",
            "os.fork",
            "socket.connect",
            "socket.bind",
        ]
    )

    def __init__(self, folder: Path, *, reads_outside: bool):
        self.is_on = False
        self.seen: list[str] = []
        self._inside = f"{folder}/"
        code = {sys.prefix, sys.base_prefix, *filter(None, sys.path)}
        own = (*code, Path(__file__).parent.parent.parent, "/proc", "/sys", "/usr")
        self._readable = tuple(f"{Path(path).resolve()}/" for path in own)
        self._reads_outside = reads_outside

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.is_on:
            return
        if event in self._PROGRAMS:
            self.seen.append(f"{event} {str(arguments)[:100]}")
        elif event in self._CHANGES:
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                self._require_inside(event, path)
        elif event == "open":
            path, mode, flags = arguments
            is_writing = (flags or 0) & self._WRITING
            if is_writing or (isinstance(mode, str) and set(mode) & set("wax+")):
                self._require_inside("write", path)
            elif not self._reads_outside:
                self._require_inside("read", path, self._readable)

    def _require_inside(self, what: str, path, others: tuple[str, ...] = ()) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor
        normal = os.path.normpath(Path.cwd() / os.fsdecode(path)) + "/"
        if not normal.startswith((self._inside, "/dev/null/", *others)):
            self.seen.append(f"{what} outside: {os.fsdecode(path)[:200]}")


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def _message_fault(error: Exception) -> str:
    if not str(error):
        return "an empty message"
    # An error may have further lines, but none that a file's content has made.
    for line in str(error).split("\n", len(error.args) - 1):
        # The terminal shows bytes that are no text as escapes.
        if not line.encode("utf-8", "backslashreplace").decode().isprintable():
            return f"not one printable line: {line[:300]!r}"
        if len(line) > _MAX_MESSAGE:
            return f"a message of {len(line):,} characters"
    return ""


def _judge(target: Target, watch: _Watch, folder: Path, data: bytes) -> tuple[str, str]:
    watch.seen.clear()
    watch.is_on = True
    try:
        target.process(folder, data)
        outcome = "accepted", ""
    except (UserError, UndecodableImageError) as error:
        outcome = "refused", str(error)
        if fault := _message_fault(error):
            outcome = "defect", f"{type(error).__name__}: {fault}"
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "/resnet50/" in f.filename] or frames
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        lines = " ".join(str(error).split())[:200]
        outcome = "defect", f"{type(error).__name__} at {at}: {lines}"
    watch.is_on = False
    if watch.seen:
        return "defect", watch.seen[0]
    return outcome


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):  # There is none, or it is too deep for rmtree.
        os.system(f"rm -rf '{folder}'")


def _child(
    target: Target,
    seed: int,
    indices: range,
    data: bytes | None,
    deadline: float,
    root: Path,
    pipe: int,
) -> None:
    """Handles inputs and writes a line before and after each."""
    faulthandler.enable()
    around, cwd = root / "around", root / "cwd"
    folder = around / "inside"
    watch = _Watch(folder, reads_outside=target.reads_outside)
    sys.addaudithook(watch)
    os.chdir(cwd)
    seeds = target.seeds()
    limit = _status_bytes("VmSize") + LIMIT_BYTES + _MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    first_bytes = 0
    for number, index in enumerate(indices):
        if number and time.monotonic() > deadline:
            break
        content = make_input(target, seeds, seed, index) if data is None else data
        folder.mkdir()
        target.place(folder, content)
        Path("/proc/self/clear_refs").write_text("5")  # Resets VmHWM.
        before = _status_bytes("VmRSS")
        os.write(pipe, f"{json.dumps({'index': index})}\n".encode())
        started = time.monotonic()
        outcome, text = _judge(target, watch, folder, content)
        seconds = time.monotonic() - started
        os.write(pipe, f"{json.dumps({'index': index, 'is_done': True})}\n".encode())
        peak = _status_bytes("VmHWM") - before
        if peak > LIMIT_BYTES and outcome != "defect":
            outcome, text = "defect", f"memory: {peak / 2**30:.1f} GiB"
        _remove(folder)
        if list(cwd.iterdir()) or [p.name for p in around.iterdir()] != ["canary"]:
            outcome, text = "defect", "files were written outside its folder"
        if number == _WARM_INPUTS:
            first_bytes = _status_bytes("VmRSS")
        elif number > _WARM_INPUTS and outcome != "defect":
            growth = _status_bytes("VmRSS") - first_bytes
            if growth > _MAX_GROWTH_BYTES:
                text = f"memory grows: {growth >> 20} MiB in {number} inputs"
                outcome = "defect"
        result = Result(index, outcome, text, peak, round(seconds, 3))
        os.write(pipe, f"{json.dumps(dataclasses.asdict(result))}\n".encode())


def _cpu_seconds_and_state(pid: int) -> tuple[float, str]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, "Z"
    return (int(fields[11]) + int(fields[12])) / _TICKS, fields[0]


class Sandbox:
    """A folder for one child at a time; see ``run``."""

    def __init__(self):
        self._root = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
        self.log = self._root / "stderr"

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *exception) -> None:
        _remove(self._root)

    def _start(self, *what) -> tuple[int, int]:
        for name in ("around", "cwd"):
            _remove(self._root / name)
            (self._root / name).mkdir()
        (self._root / "around" / "canary").touch()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            return pid, reading
        try:
            # The child dies with its parent.
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            out = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for descriptor in (1, 2):
                os.dup2(out, descriptor)
            _child(*what, self._root, writing)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
        os._exit(0)

    def run(
        self,
        target: Target,
        seed: int,
        indices: range,
        data: bytes | None = None,
        deadline: float = math.inf,
    ) -> list[Result]:
        """Handles inputs until the first that ends the child; its result is the last.

        Stops at the deadline, but not before the first input. With ``data``, that is
        the only input.
        """
        indices = indices[:_INPUTS_OF_A_CHILD]
        pid, pipe = self._start(target, seed, indices, data, deadline)
        results: list[Result] = []
        index, is_busy, text = indices.start, False, b""
        started = checked = time.monotonic()
        cpu_at_start = cpu_before = 0.0
        fault = ""
        while True:
            ready, _, _ = select.select([pipe], [], [], 1.0)
            cpu, state = _cpu_seconds_and_state(pid)
            if ready:
                block = os.read(pipe, 2**16)
                if not block:
                    break
                *lines, text = (text + block).split(b"\n")
                for line in lines:
                    found = json.loads(line)
                    is_busy = len(found) == 1
                    index = found["index"]
                    if "outcome" in found:
                        results.append(Result(**found))
                started, cpu_at_start = time.monotonic(), cpu
                continue
            now = time.monotonic()
            # A machine that is busy with other work delays the child; this is no hang.
            is_blocked = state in "SD" and cpu - cpu_before < 0.1 * (now - checked)
            is_long = cpu - cpu_at_start > LIMIT_SECONDS
            if is_busy and now - started > LIMIT_SECONDS and (is_blocked or is_long):
                fault = f"hangs: {now - started:.0f} s, {cpu - cpu_at_start:.0f} s busy"
                os.kill(pid, signal.SIGKILL)
                break
            checked, cpu_before = now, cpu
        os.close(pipe)
        _, status = os.waitpid(pid, 0)
        if not fault and status:
            code = os.waitstatus_to_exitcode(status)
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            fault = f"the child ended with {code}: {last}"
        if fault:
            results.append(Result(index, "defect", fault))
        return results
