"""A server of files, and little patience with it."""

import pytest

from resnet50.dataset.remote import store
from tests.dataset.remote.servers import IMPATIENT, file_server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", IMPATIENT)
    with file_server() as state:
        yield state
