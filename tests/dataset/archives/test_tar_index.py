"""Proves that tar archives are listed whole, or refused with the damaged place."""

import io
import tarfile

import pytest

from resnet50.dataset.archives.tar_index import Entry, tar_files
from resnet50.dataset.images import DatasetError
from tests.dataset.layout_examples import tar_of
from tests.fuzz.mutators import repair_tar

END = bytes(1024)  # Two blocks of zeros end an archive.


def member(name: str, content: bytes, **header) -> bytes:
    """A header and its padded content; keywords override the header's fields."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in header.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def list_tar(path, content):
    path.write_bytes(content)
    return list(tar_files(path))


def message_of(path, content):
    with pytest.raises(DatasetError) as caught:
        list_tar(path, content)
    return str(caught.value).removeprefix(f"{path}: ")


def cut_off(offset, end):
    return (
        f"is cut off: its last header begins at byte {offset:,}, and the archive ends "
        f"at byte {end:,} (copy or download it again)"
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.tar"


def test_offsets_of_inner_archives_are_of_the_outermost(path):
    inner = member("1.JPEG", b"one") + member("x/2.JPEG", b"two") + END
    content = member("n01.tar", inner) + member("./3.JPEG", b"three") + END
    entries = list_tar(path, content)
    assert [entry.name for entry in entries] == ["n01/1.JPEG", "n01/x/2.JPEG", "3.JPEG"]
    found = [content[e.offset : e.offset + e.size] for e in entries]
    assert found == [b"one", b"two", b"three"]


def test_what_is_no_regular_file_is_left_out(path):
    link = member("b", b"", type=tarfile.SYMTYPE, linkname="a")
    folder = member("c", b"", type=tarfile.DIRTYPE)
    hidden = member(".c/x.JPEG", b"x")
    content = link + folder + hidden + member("a", b"a") + END
    (entry,) = list_tar(path, content)
    assert entry == Entry("a", content.rindex(b"a"), 1)


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_cut_in_a_long_name_is_cut_off(path, tar_format):
    whole = tar_of([("1.JPEG", b"one"), ("x" * 300, b"two")], tar_format)
    for cut in (1024 + 512, 1024 + 512 + 200, 1024 + 1024, 1024 + 1024 + 100):
        assert message_of(path, whole[:cut]) == cut_off(1024, cut)


def test_an_inner_archive_without_an_end_is_cut_off(path):
    """The header after it belongs to the outer archive."""
    inner = member("1.JPEG", b"one")
    content = member("n01.tar", inner) + member("n02.tar", inner + END) + END
    assert message_of(path, content) == cut_off(1536, 1536)


def test_a_file_that_ends_after_the_archive_is_cut_off(path):
    assert message_of(path, member("1.JPEG", b"one", size=10_000) + END) == (
        "is cut off: 1.JPEG ends at byte 10,512, the archive at byte 2,048 (copy or "
        "download it again)"
    )
    assert message_of(path, b"") == cut_off(0, 0)


@pytest.mark.parametrize("size", [-1, -512, -(2**60)])
def test_a_negative_size_is_no_header(path, size):
    content = member("1.JPEG", b"one") + member("2.JPEG", b"", size=size) + END
    assert message_of(path, content).startswith("byte 1,024 is no header")


def test_a_damaged_header_is_not_the_end(path):
    content = bytearray(member("1.JPEG", b"one") + member("2.JPEG", b"two") + END)
    content[1024 + 5] ^= 1
    assert message_of(path, content) == (
        "byte 1,024 is no header of a tar archive (it must not be compressed; if it is "
        "not, copy or download it again)"
    )


def test_enormous_headers_are_refused(path):
    name = member("././@LongLink", b"", type=tarfile.GNUTYPE_LONGNAME, size=2**62)
    for content in (name + END, member("1.JPEG", b"1") + name + END):
        assert "cut off" in message_of(path, content) or "no header" in message_of(
            path, content
        )


def test_an_absent_archive(path):
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        list(tar_files(path))


def test_names_are_any_bytes(path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("caf\udce9.JPEG"))
    (entry,) = list_tar(path, buffer.getvalue())
    assert entry.name == "caf\udce9.JPEG"


def test_a_sparse_file_is_refused(path):
    """Its size in the header is not that of its bytes."""
    content = member("n01/a.JPEG", b"s" * 20, type=tarfile.GNUTYPE_SPARSE)
    header = bytearray(content[:512])
    header[386:410] = b"%011o\0%011o\0" % (980, 20)
    header[483:495] = b"%011o\0" % 1_000
    content = repair_tar(bytes(header)) + content[512:] + member("b", b"x") + END
    assert message_of(path, content) == (
        "n01/a.JPEG is stored as a sparse file, without its zeros (make the archive "
        "without tar's --sparse)"
    )
