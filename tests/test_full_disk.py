"""Proves that both programs survive a full disk, on a real small one.

Each test runs a scenario in its own mount namespace, where it mounts a tmpfs. Root and,
on most Linux systems, any user can create such a namespace.
"""

import subprocess
import sys

import pytest

from tests.settings import PROJECT

_UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount() -> bool:
    try:
        trial = [*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        return subprocess.run(trial, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not can_mount(), reason="this user may not mount a tmpfs (unshare --user --mount)"
)


@pytest.mark.parametrize("name", ["buffer", "container", "checkpoints"])
def test_scenario(tmp_path, name):
    command = [*_UNSHARE, sys.executable, "-m", "tests.full_disk", name, str(tmp_path)]
    result = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("as it should be\n")
