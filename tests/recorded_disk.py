"""Records the calls that decide what survives a power cut."""

import os
from pathlib import Path


def record(monkeypatch) -> list[tuple[str, str]]:
    """Records flushes, renames and deletions from now on, as (call, name)."""
    calls = []

    def recording(name, function, name_of):
        def call(first, *args, **kwargs):
            calls.append((name, name_of(first, *args)))
            return function(first, *args, **kwargs)

        return call

    def opened(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    def target(source, destination, *rest) -> str:
        return Path(destination).name

    def deleted(path, *rest) -> str:
        return Path(path).name

    monkeypatch.setattr(os, "fsync", recording("flush", os.fsync, opened))
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, recording("name", getattr(os, name), target))
    monkeypatch.setattr(os, "unlink", recording("delete", os.unlink, deleted))
    return calls
