"""What a URL names, and what a message may show of it."""

import re
import urllib.parse


def is_url(location: object) -> bool:
    """Whether a setting or a source is a URL, and no path."""
    return isinstance(location, str) and "://" in location


def shown_url(url: str) -> str:
    """A URL without a password, and without a query, which may be a signature."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    if re.search(r"^[^@\[\]]*:(?!\d*$)", host):  # No port, but a password with a slash.
        host, slash, path = rest.rpartition("@")[2].partition("/")
    host, path = host.rpartition("@")[2], re.split(r"[?#]", path, maxsplit=1)[0]
    return f"{scheme}://{host}{slash}{path}"


def without_secrets(text: str) -> str:
    """A library's message as one line, with its URLs as ``shown_url`` shows them."""
    text = re.sub(r"://[^\s/@]*@", "://", " ".join(text.split()))
    return re.sub(r"(?<=[\w/])\?[\w%.~-]+=\S*", "", text)


def stem_of(url: str) -> str:
    """The file name of an archive, without its ending."""
    name = shown_url(url).rpartition("/")[2]
    return urllib.parse.unquote(name).removesuffix(".tar")


def is_archive(url: str) -> bool:
    """Whether a URL is that of a tar archive."""
    return shown_url(url).endswith(".tar")
