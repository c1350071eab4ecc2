"""Fixtures of the tests of several commands."""

import pytest

from tests.settings import write_small_config


@pytest.fixture
def run_command(tmp_path, monkeypatch):
    """Returns a function that runs a command's module with a small config.txt."""
    config = write_small_config(tmp_path)

    def run(module, *words):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr("sys.argv", [name, f"--config={config}", *words])
        module.main()

    return run
