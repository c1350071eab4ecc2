"""Proves what comes of each answer of a server: bytes, another try, or one line."""

import errno
import pickle
import ssl
import sys
import time

import pytest
import urllib3

from resnet50.dataset.remote import http_store, store
from resnet50.dataset.remote.store import StoreAwayError, describe_object, read_range
from resnet50.errors import UserError
from resnet50.urls import shown_url, without_secrets
from tests.dataset.remote.servers import IMPATIENT

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def url(server):
    server.files["a.tar"] = CONTENT
    return f"{server.url}/a.tar"


def test_ranges_are_read_over_few_connections(server, url):
    for start in range(0, 5000, 100):
        assert read_range(url, start, start + 333) == CONTENT[start : start + 333]
    assert read_range(f"{server.url}/moved/a.tar", 7, 9) == b"\7\10"
    assert server.num_connections == 1
    info = describe_object(url)
    assert info.size == len(CONTENT)
    server.files["a.tar"] = CONTENT[:-1]
    assert describe_object(url).version != info.version


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("503", "503 Service Unavailable"),
        ("500", "500 Internal Server Error"),
        ("429", "429 Too Many Requests"),
        ("403", "403 Forbidden"),
        ("401", "401 Unauthorized"),
        ("400", "400 Bad Request"),
        ("429", "429 Too Many Requests"),
        ("cut", "the answer has 5,000 of 10,000 bytes"),
        ("hang up", "Connection aborted."),
        ("silent", "no byte within 0.2 s"),
        ("drip", "bytes came, too slowly"),
        (
            "whole",
            "the server ignores byte ranges and would send the whole archive (use one "
            "that answers 206)",
        ),
        (
            "other range",
            "asked for bytes 100-10099, the server sends 'bytes 0-9999/10240'",
        ),
        ("no range", "asked for bytes 100-10099, the server sends 'items 0-1'"),
    ],
)
def test_a_server_is_tried_again_and_then_away(server, url, fault, reason, monkeypatch):
    if fault in ("silent", "drip"):
        monkeypatch.setattr(
            store, "PATIENCE", IMPATIENT._replace(idle=0.2, request=0.2)
        )
    else:
        server.faults = [fault] * 3
        assert read_range(url, 100, 10_100) == CONTENT[100:10_100]
    server.always = fault
    server.requests.clear()
    with pytest.raises(StoreAwayError) as caught:
        read_range(url, 100, 10_100)
    assert str(caught.value).startswith(f"{url}: ")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(
        " s (is the server there, and are the credentials valid?)"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert sum(start == 100 for _, start, _ in server.requests) == 4


def test_an_archive_that_a_server_would_send_whole_is_not_downloaded(server):
    server.files["a.tar"] = bytes(10**8)
    server.always = "whole"
    with pytest.raises(StoreAwayError):
        read_range(f"{server.url}/a.tar", 0, 10)
    time.sleep(0.05)
    # What fits into the buffers of the connections may have been sent.
    assert server.num_sent < 5 * 10**7


def errno_of(url, start, stop):
    with pytest.raises(OSError) as caught:
        read_range(url, start, stop)
    return caught.value.errno, caught.value.strerror


def test_what_is_gone_or_short_is_not_tried_again(server, url):
    assert errno_of(f"{server.url}/b.tar", 0, 9) == (
        errno.ENOENT,
        "is not there: 404 Not Found",
    )
    short = (errno.ENODATA, "the archive ends before the image does")
    assert errno_of(url, len(CONTENT), len(CONTENT) + 1) == short
    assert errno_of(url, 0, len(CONTENT) + 1) == short
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "wrong", ["http:///a.tar", "https://h:99999/a.tar", "http://h:x/a", "http://[::1/a"]
)
def test_a_malformed_url_is_not_tried_again(wrong, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", IMPATIENT)
    with pytest.raises(OSError, match="is no URL ") as caught:
        describe_object(wrong)
    assert caught.value.errno == errno.EINVAL


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", store.Patience(pauses=(0.01,)))
    with pytest.raises(StoreAwayError, match="Connection refused; tried for 0 s"):
        read_range("http://127.0.0.1:9/a.tar", 0, 1)


def test_secrets_are_not_shown(server):
    with pytest.raises(StoreAwayError) as caught:
        server.always = "403"
        address = server.url.removeprefix("http://")
        read_range(f"http://me:secret@{address}/a.tar?X-Sig=secret#secret", 0, 1)
    assert "secret" not in str(caught.value)
    assert f"{server.url}/a.tar: 403" in str(caught.value)
    assert shown_url("s3://bucket/a/b.tar") == "s3://bucket/a/b.tar"
    assert shown_url("/data/a?b/#c.tar") == "/data/a?b/#c.tar"
    assert shown_url("h://me:sec/ret@host:80/a.tar") == "h://host:80/a.tar"
    assert shown_url("h://[::1]:80/a@b.tar") == "h://[::1]:80/a@b.tar"
    assert without_secrets("no answer from https://a:b@c/d?e=f&g=h, sorry?\n") == (
        "no answer from https://c/d sorry?"
    )


def test_files_through_fsspec(tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setattr(store, "PATIENCE", store.Patience(pauses=(0.01,)))
    (tmp_path / "a.tar").write_bytes(CONTENT)
    url = f"file://{tmp_path}/a.tar"
    assert read_range(url, 7, 300) == CONTENT[7:300]
    assert errno_of(url, 7, len(CONTENT) + 1)[0] == errno.ENODATA
    assert errno_of(f"{url}x", 7, 9)[0] == errno.ENOENT
    info = describe_object(url)
    assert info.size == len(CONTENT)
    assert info.version
    with pytest.raises(UserError, match="Protocol not known: nothing"):
        read_range("nothing://a/b.tar", 0, 1)


@pytest.mark.parametrize(
    ("url", "package"), [("gs://b/a.tar", "gcsfs"), ("http://h/a.tar", "urllib3")]
)
def test_a_missing_package_is_one_line(monkeypatch, url, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "resnet50.dataset.remote.http_store", False)
    with pytest.raises(UserError, match=r"\[objectstore\]"):
        read_range(url, 0, 1)


def test_an_unknown_certificate_is_named_with_the_remedy():
    """The error is urllib3's; a server would need a certificate."""
    reason = ssl.SSLCertVerificationError(
        1,
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed "
        "certificate (_ssl.c:1006)",
    )
    error = urllib3.exceptions.MaxRetryError(
        None, "/", urllib3.exceptions.SSLError(reason)
    )
    assert http_store._reason(error) == (
        "its certificate is not trusted: self-signed certificate (SSL_CERT_FILE names "
        "the file of another authority)"
    )
