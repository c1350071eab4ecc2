"""Proves that both programs survive a full disk, on a real small one.

Each test runs a scenario in its own mount namespace, where it mounts a tmpfs. Root and,
on most Linux systems, any user can create such a namespace.
"""

import subprocess
import sys

import pytest

from tests.full_disk import UNSHARE, can_mount
from tests.settings import PROJECT

pytestmark = pytest.mark.skipif(
    not can_mount(), reason="this user may not mount a tmpfs (unshare --user --mount)"
)


@pytest.mark.parametrize("name", ["buffer", "container", "checkpoints"])
def test_scenario(tmp_path, name):
    command = [*UNSHARE, sys.executable, "-m", "tests.full_disk", name, str(tmp_path)]
    result = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("as it should be\n")
