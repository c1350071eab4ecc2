"""Makes folders of empty files and lists, and describes datasets. No test."""

import os
from pathlib import Path

import pytest

from resnet50.dataset.images import DatasetError


def touch(folder: Path, *names: str | bytes) -> None:
    for name in names:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relative_paths(dataset) -> list[str]:
    prefix = f"{dataset.folder}/"
    paths = [str(source) for source in dataset.sources(range(dataset.num_images))]
    assert all(path.startswith(prefix) for path in paths)
    return [path.removeprefix(prefix) for path in paths]


def list_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def message_of(function, *args) -> str:
    with pytest.raises(DatasetError) as caught:
        function(*args)
    return str(caught.value)
