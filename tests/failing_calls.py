"""Lets system calls of a program, its threads and its children fail on chosen files.

The kernel asks this process about each such call (seccomp's user notification, Linux
5.5 or newer, no root). So a fault hits C code too, such as TensorFlow's checkpoints, it
can be for all files that match a pattern, and it begins and ends while the program
runs. ``strace -e inject`` can do neither of the last two: its ``-P`` takes exact paths,
and a temporary file has a new name each time.

    python -m tests.failing_calls SOCKET NUMBER,... PROGRAM ...

installs the filter in its own process, sends its descriptor over a socket, and becomes
the program. ``FailingProgram`` is the other side.
"""

import array
import ctypes
import errno
import fnmatch
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

# Numbers of system calls on x86-64 and on 64-bit ARM, and the index of the argument
# that is the folder of the path, the path, or the file descriptor.
_CALLS = {
    "openat": (257, 56, "at", 0),
    "open": (2, None, "path", 0),
    "read": (0, 63, "fd", 0),
    "pread64": (17, 67, "fd", 0),
    "readv": (19, 65, "fd", 0),
    "preadv": (295, 69, "fd", 0),
    "write": (1, 64, "fd", 0),
    "pwrite64": (18, 68, "fd", 0),
    "writev": (20, 66, "fd", 0),
    "fsync": (74, 82, "fd", 0),
    "fdatasync": (75, 83, "fd", 0),
    "flock": (73, 32, "fd", 0),
    "getdents64": (217, 61, "fd", 0),
    "rename": (82, None, "path", 1),
    "renameat": (264, 38, "at", 2),
    "renameat2": (316, 276, "at", 2),
    "mkdir": (83, None, "path", 0),
    "mkdirat": (258, 34, "at", 0),
    "unlink": (87, None, "path", 0),
    "unlinkat": (263, 35, "at", 0),
    "stat": (4, None, "path", 0),
    "lstat": (6, None, "path", 0),
    "newfstatat": (262, 79, "at", 0),
    "statx": (332, 291, "at", 0),
    "access": (21, None, "path", 0),
    "faccessat": (269, 48, "at", 0),
    "faccessat2": (439, 439, "at", 0),
}
# The operations of a fault, as system calls.
OPERATIONS = {
    "open": ("openat", "open"),
    "create": ("openat", "open"),  # opening for writing
    "read": ("read", "pread64", "readv", "preadv"),
    "write": ("write", "pwrite64", "writev"),
    "fsync": ("fsync", "fdatasync"),
    "rename": ("rename", "renameat", "renameat2"),  # by the new name
    "mkdir": ("mkdir", "mkdirat"),
    "unlink": ("unlink", "unlinkat"),
    "list": ("getdents64",),
    "lock": ("flock",),
    "stat": (
        *("stat", "lstat", "newfstatat", "statx"),
        *("access", "faccessat", "faccessat2"),
    ),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_COLUMN, _ARCHITECTURE = _MACHINES.get(platform.machine(), (None, None))

# Instead of an error number: the call does nothing and succeeds.
PRETEND = -1

# linux/seccomp.h, linux/prctl.h
_SECCOMP = {"x86_64": 317, "aarch64": 277}.get(platform.machine())
_NO_NEW_PRIVS, _SET_FILTER, _NEW_LISTENER = 38, 1, 8
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_AT_FDCWD = 2**32 - 100
_LIBC = ctypes.CDLL(None, use_errno=True)


def _number(call: str) -> int | None:
    return _CALLS[call][_COLUMN]


def _install_filter(numbers: list[int]) -> int:
    """Lets the kernel ask about some system calls; returns the filter's descriptor."""
    # BPF instructions: code, jump if true, jump if false, value.
    load, equal, give = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 4), (equal, 1, 0, _ARCHITECTURE), (give, 0, 0, _ALLOW)]
    program.append((load, 0, 0, 0))
    for number in numbers:
        program += [(equal, 0, 1, number), (give, 0, 0, _ASK)]
    program.append((give, 0, 0, _ALLOW))
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("H6xQ", len(program), ctypes.addressof(buffer))
    if _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    descriptor = _LIBC.syscall(_SECCOMP, _SET_FILTER, _NEW_LISTENER, header)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return descriptor


def main() -> None:
    """Becomes the program, with the filter."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    words = sys.argv[3:]
    descriptor = _install_filter([int(n) for n in sys.argv[2].split(",")])
    rights = array.array("i", [descriptor])
    channel.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    os.close(descriptor)
    os.execv(words[0], words)


class Fault:
    """Which operations fail on which files, and how.

    Attributes:
        num_hits: How many calls have failed.
    """

    def __init__(
        self, operations: str, pattern: Path | str, error: int | None, first: int = 1
    ):
        """A fault that is not yet in force.

        Args:
            operations: Some of OPERATIONS, separated by spaces.
            pattern: The path of the files, with * and ?.
            error: The error number, or PRETEND; None to hang until the fault ends.
            first: The first call that fails, counted from 1.
        """
        self.operations = operations.split()
        self._pattern = str(pattern)
        self._error = error
        self._first = first
        self._calls = {
            call: operation
            for operation in self.operations
            for call in OPERATIONS[operation]
        }
        self.is_in_force = False
        self._num_calls = self.num_hits = 0

    def answer(self, call: str, path: str, flags: int) -> int:
        """The error number for a call; 0 lets it happen."""
        if not self.is_in_force or call not in self._calls:
            return 0
        is_writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if self._calls[call] == "create" and not is_writing:
            return 0
        if not fnmatch.fnmatchcase(path, self._pattern):
            return 0
        self._num_calls += 1
        if self._num_calls < self._first:
            return 0
        self.num_hits += 1
        while self._error is None and self.is_in_force:
            time.sleep(0.05)
        return self._error or 0


class FailingProgram:
    """A program whose system calls can be made to fail; its output is in a file."""

    def __init__(self, words: list[str], log: Path, faults: list[Fault], **options):
        """Starts it; the faults that are in force fail from its first call on."""
        self.faults = faults
        calls = {c for f in faults for o in f.operations for c in OPERATIONS[o]}
        self._names = {n: c for c in calls if (n := _number(c)) is not None}
        ours, theirs = socket.socketpair()
        numbers = ",".join(map(str, self._names))
        if self._names:
            sender = ["-m", "tests.failing_calls", str(theirs.fileno()), numbers]
            words = [sys.executable, *sender, *words]
        with ours, theirs, log.open("ab") as output:
            self.process = subprocess.Popen(
                words,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                **options,
            )
            theirs.close()
            if self._names:
                _, rights, *_ = ours.recvmsg(1, 64)
                (descriptor,) = array.array("i", rights[0][2])
                self._thread = threading.Thread(
                    target=self._serve, args=(descriptor,), daemon=True
                )
                self._thread.start()

    def _serve(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        notice, answer = (
            ctypes.create_string_buffer(80),
            ctypes.create_string_buffer(24),
        )
        while True:
            events = poll.poll()
            if not events[0][1] & select.POLLIN:  # All its processes have ended.
                os.close(descriptor)
                return
            ctypes.memset(notice, 0, 80)
            if _LIBC.ioctl(descriptor, ctypes.c_ulong(_RECEIVE), notice):
                continue  # The process was killed in the meantime.
            number, pid, _, call, _, _, *arguments = struct.unpack("QIIiIQ6Q", notice)
            name = self._names[call]
            try:
                path, flags = self._subject(pid, name, arguments)
                error = self._error(name, path, flags)
            except (OSError, ValueError):  # It has been killed.
                error = 0
            flag = 0 if error else _CONTINUE
            struct.pack_into("QqiI", answer, 0, number, 0, -max(0, error), flag)
            _LIBC.ioctl(descriptor, ctypes.c_ulong(_SEND), answer)

    def _error(self, call: str, path: str, flags: int) -> int:
        errors = [fault.answer(call, path, flags) for fault in self.faults]
        return next((error for error in errors if error), 0)

    @staticmethod
    def _subject(pid: int, call: str, arguments: list[int]) -> tuple[str, int]:
        """The path that a call is about, and the flags if it opens a file."""
        *_, kind, index = _CALLS[call]
        root = Path(f"/proc/{pid}")
        if kind == "fd":
            return str((root / "fd" / str(arguments[0])).readlink()), 0
        folder = None
        if kind == "at":
            folder, index = arguments[index] & (2**32 - 1), index + 1
        with (root / "mem").open("rb") as memory:
            memory.seek(arguments[index])
            path = os.fsdecode(memory.read1(4096).split(b"\0")[0])
        if not path.startswith("/"):
            here = "cwd" if folder in (None, _AT_FDCWD) else f"fd/{folder}"
            path = str((root / here).readlink() / path).removesuffix("/")
        flags = arguments[index + 1] if call in OPERATIONS["open"] else 0
        return os.path.normpath(path), flags


def why_not() -> str:
    """Why no calls can be made to fail here; "" if they can."""
    if sys.platform != "linux" or _COLUMN is None:
        return f"no list of system calls for {sys.platform} on {platform.machine()}"
    action = ctypes.c_uint32(_ASK)
    if _LIBC.syscall(_SECCOMP, 2, 0, ctypes.byref(action)):
        return f"no seccomp user notification: {errno.errorcode[ctypes.get_errno()]}"
    return ""


if __name__ == "__main__":
    main()
