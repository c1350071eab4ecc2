"""Proves that images in S3 make the batches of a local copy; see tests.object_store."""

import pytest

from tests import object_store


@pytest.mark.skipif(
    object_store.MISSING is not None,
    reason=f"{object_store.MISSING} is missing (pip install 'moto[server]' s3fs)",
)
def test_batches_are_those_of_a_local_copy(tmp_path, monkeypatch):
    for name in object_store.environment(""):
        monkeypatch.setenv(name, "")  # Restored at the end.
    with object_store.s3_server() as proxy:
        object_store.upload()
        object_store.check_in_this_process(tmp_path, proxy)
