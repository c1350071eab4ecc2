"""Objects on any store that fsspec knows: s3://, gs://, az://, file:// ...

The packages for it read credentials, profiles and endpoints from the environment and
their usual files. fsspec reads other options from it: FSSPEC_S3_ANON=true.
"""

import errno
import functools
import os
import re
from typing import Any, TypeVar

from resnet50.dataset.remote import store
from resnet50.dataset.remote.store import FailedTryError, ObjectInfo
from resnet50.errors import UserError, short_line
from resnet50.installation import install_command

Answer = TypeVar("Answer")

# What an object's version may be called, in the order of trust.
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")


@functools.lru_cache
def _file_system(process_id: int, root: str) -> Any:
    """The file system of a bucket or host.

    Without this cache, fsspec would make one for each thread.
    """
    options: dict[str, Any] = {"use_listings_cache": False}
    is_s3 = root.startswith(("s3://", "s3a://"))
    if is_s3:  # Both s3fs and botocore would try again by themselves.
        options["config_kwargs"] = {
            "connect_timeout": store.PATIENCE.connecting,
            "read_timeout": store.PATIENCE.idle,
            "retries": {"max_attempts": 0},
        }
    try:
        import fsspec

        files = fsspec.core.url_to_fs(root, **options)[0]
        if is_s3:
            files.retries = 1
        return files
    except ImportError as error:
        raise UserError(
            f"{root}: {short_line(str(error))} ({install_command('objectstore')} has "
            "what s3:// needs; gs:// needs gcsfs, az:// adlfs)"
        ) from None
    except ValueError as error:
        raise UserError(f"{root}: {short_line(str(error))}") from None


def _locate(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    found = re.match(r"[^:]*://[^/]*", url)
    assert found is not None
    files = _file_system(os.getpid(), found[0])
    return files, files._strip_protocol(url)


def _call(files: Any, method: str, *args: Any, seconds: float, **named: Any) -> Any:
    """Calls a method of a file system, with a time limit if it is asynchronous.

    Raises:
        OSError: The object is not there.
        FailedTryError: Anything else went wrong.
    """
    from fsspec.asyn import sync

    try:
        if files.async_impl:
            function = getattr(files, f"_{method}")
            return sync(files.loop, function, *args, timeout=seconds, **named)
        return getattr(files, method)(*args, **named)
    except FileNotFoundError:
        raise store.gone() from None
    # Each package has its own errors, and some raise plain Exception.
    except Exception as error:
        if getattr(error, "errno", None) == errno.EINVAL and "range" in str(error):
            raise store.too_short() from None
        if isinstance(error, TimeoutError) and not str(error):
            raise FailedTryError(f"no answer within {seconds:.0f} s") from None
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FailedTryError(short_line(text)) from None


class FsspecStore:
    """The way to objects through fsspec."""

    def read(self, url: str, start: int, stop: int) -> bytes:
        """Reads bytes ``start`` to ``stop`` of an object, or fewer."""
        files, path = _locate(url)
        limit = store.PATIENCE.seconds_for(stop - start)
        data = _call(files, "cat_file", path, start=start, end=stop, seconds=limit)
        return bytes(data)

    def describe(self, url: str) -> ObjectInfo:
        """Asks for the size and the version of an object."""
        files, path = _locate(url)
        found = _call(files, "info", path, seconds=store.PATIENCE.request)
        if found["type"] == "directory":
            raise store.gone("is a folder")
        return _info_of(found)

    def objects(self, url: str) -> dict[str, ObjectInfo]:
        """Lists the objects in a folder, by URL; for an object, only that."""
        files, path = _locate(url)
        limit = store.PATIENCE.request
        found = _call(files, "info", path, seconds=limit)
        if found["type"] != "directory":
            return {url: _info_of(found)}
        # A thousand objects take a second.
        inside = _call(files, "ls", path, detail=True, seconds=10 * limit)
        return {
            files.unstrip_protocol(x["name"]): _info_of(x)
            for x in inside
            if x["type"] == "file"
        }


def _info_of(found: dict[str, Any]) -> ObjectInfo:
    known = [found[k] for k in (*_VERSIONS, *_TIMES) if found.get(k) is not None]
    return ObjectInfo(int(found["size"]), str(known[0]) if known else "")
