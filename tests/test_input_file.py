"""Proves that reading a file never blocks and has a limit."""

import errno
import os
import socket

import pytest

from resnet50.input_file import open_regular, read_regular


def error_number(path, max_bytes=10):
    with pytest.raises(OSError) as caught:
        read_regular(path, max_bytes)
    return caught.value.errno


def test_a_file_is_read_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert read_regular(path, 10) == b"0123456789"
    assert error_number(path, 9) == errno.EFBIG
    with open_regular(path, buffering=0) as file:
        assert file.read(3) == b"012"


def test_reads_that_are_cut_short_go_on(tmp_path, monkeypatch):
    path, read = tmp_path / "file", os.read
    path.write_bytes(b"0123456789")
    monkeypatch.setattr(os, "read", lambda file, number: read(file, min(number, 4)))
    assert read_regular(path, 10) == b"0123456789"


def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # The path of a socket must be short.
    os.mkfifo("pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to("circle")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name in ("pipe", "zeros", "socket"):
            assert error_number(name) == errno.EINVAL
    assert error_number(tmp_path) == errno.EISDIR
    assert error_number("circle") == errno.ELOOP
    assert error_number("absent") == errno.ENOENT


def test_a_file_of_the_kernel_does_not_block(tmp_path):
    """/proc/kmsg blocks until the kernel says something; it has no size."""
    (tmp_path / "link").symlink_to("/proc/kmsg")
    try:
        assert read_regular(tmp_path / "link", 10) == b""
    except PermissionError:
        pytest.skip("only root may open it")
