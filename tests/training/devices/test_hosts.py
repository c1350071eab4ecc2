"""Proves that two hosts train together; here both are processes on this machine.

First they share a folder; then each has its own, and the chief is killed and loses its
disk; a single process finishes the training. ``python -m tests.local_folders`` has the
whole proof.
"""

import shutil
import signal

import pytest

from resnet50.demo.pictures import make_images
from resnet50.reports.tables import read_table
from tests import local_folders
from tests.training.devices.loopback_hosts import (
    ended,
    preprocessor,
    trainer,
    two_local_hosts,
    two_trainers,
    wait_for_progress,
    write_config,
)

PER_CLASS, EPOCHS = 8, 2


def test_the_whole_proof_can_be_started(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["local_folders", "--help"])
    with pytest.raises(SystemExit, match="0"):
        local_folders.main()
    assert "chief lost" in capsys.readouterr().out


def test_two_hosts_stop_get_folders_of_their_own_lose_one_and_end_on_the_other(
    tmp_path,
):
    images = tmp_path / "images"
    make_images(images / "train", PER_CLASS, 1, with_odd_files=False)
    reference = write_config(tmp_path / "reference", images, epochs=EPOCHS)
    with preprocessor(reference), trainer(reference) as alone:
        code, errors = ended(alone)
        assert code == 0, errors

    shared = write_config(tmp_path / "host0", images, epochs=EPOCHS)
    with preprocessor(shared), two_trainers([shared] * 2) as (chief, other):
        wait_for_progress(shared, (0, 2), [chief, other])
        other.send_signal(signal.SIGTERM)
        results = [ended(host) for host in (chief, other)]
    for code, errors in results:
        assert code == 130, errors
        assert "Traceback" not in errors
    stops = {
        line
        for _, errors in results
        for line in errors.splitlines()
        if line.startswith("stopped before")
    }
    assert len(stops) == 1, results
    folder = shared.parent / "saved_models/run"
    [stopped_at] = [path for path in folder.iterdir() if path.is_dir()]

    configs = [
        write_config(tmp_path / name, images, epochs=EPOCHS, local_folders=True)
        for name in ("host0", "host1")
    ]
    with two_local_hosts(configs, "--resume") as (makers, (chief, other)):
        wait_for_progress(configs[1], (1, 1), [chief, other])
        makers[0].kill()
        chief.kill()
        code, errors = ended(other)
    assert code == 1, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("worker 0, 127.0.0.1:"), errors
    epoch, batch_index = map(int, stopped_at.name.split("_"))
    assert f"has the newest checkpoint, epoch {epoch}, batch {batch_index}" in errors
    parts = {p.name for p in (configs[1].parent / "buffer").glob("images_*")}
    assert parts and all("_rows_2_3" in name for name in parts), parts
    shutil.rmtree(tmp_path / "host0")

    with preprocessor(configs[1]), trainer(configs[1], "--resume") as alone:
        code, errors = ended(alone)
        assert code == 0, errors
    expected, found = (
        read_table(config.parent / "saved_models/run/metrics.csv")
        for config in (reference, configs[1])
    )
    assert [row["epoch"] for row in found] == [str(e) for e in range(EPOCHS)]
    for ours, theirs in zip(found, expected, strict=True):
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-4)
