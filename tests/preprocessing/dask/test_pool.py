"""Proves that a dask cluster makes the local pool's files, whatever it loses.

A scheduler and workers run as processes on loopback; workers and the scheduler are
killed in the middle of a run. A host that differs, or does not see the same folder, is
reported in one line: at the start it ends the program, later it gets no work.
"""

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from resnet50.dataset.listing import open_dataset
from resnet50.handoff import locks, shared_folder
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.lost_folder import PreprocessorFiles
from resnet50.handoff.manifest import adopt_buffer
from resnet50.handoff.progress import StepRange, to_position, write_progress
from resnet50.handoff.shared_folder import SharedBuffer
from resnet50.preprocessing.batches import Assignments
from resnet50.preprocessing.dask import connection
from resnet50.preprocessing.dask.connection import NoWorkerError
from resnet50.preprocessing.dask.pool import DaskError, DaskPool
from resnet50.preprocessing.dask.transfer import NetworkBuffer
from resnet50.preprocessing.refill import Refill, RefillSettings, make_and_write
from resnet50.preprocessing.trainer_watch import ProgressFollower
from tests.dataset.layout_examples import (
    class_tars,
    make_images,
    write_files,
    write_official_archive,
    write_shards,
)
from tests.doubles import RecordingObserver
from tests.images import make_class_folders
from tests.preprocessing.batch_settings import make_settings
from tests.preprocessing.workloads import square

pytest.importorskip("distributed")

from tests.preprocessing.dask.clusters import (
    free_port,
    scheduler_process,
    started,
    worker_process,
)

BATCHES_PER_EPOCH = 6
END_STEP = 12
MANY_POLLS = 20_000


class Host:
    """What the preprocessor's host has: images, settings, and a buffer of its own."""

    def __init__(self, folder, images=None, transfer="folder"):
        if images is None:
            images = folder / "images"
            make_class_folders(images, 5, 5)
        self.dataset = open_dataset(images, None)
        self.settings = make_settings()
        self.manifest = self.settings.manifest(self.dataset)
        self.assignments = Assignments(self.dataset, self.settings)
        path = folder / "buffer"
        path.mkdir()
        self.buffer = SharedBuffer(path, self.manifest)
        if transfer == "network":
            self.buffer = NetworkBuffer(path)
        adopt_buffer(self.buffer, self.manifest, print)
        self.observer = RecordingObserver()
        self.said = self.observer.lines

    def pool(self, address):
        images = self.dataset.sources(range(3))
        return DaskPool(address, self.buffer, images, self.observer)

    def refill(self, address, show):
        role = locks.Role(self.buffer.folder, locks.PREPROCESSOR)
        steps = StepRange(0, END_STEP, BATCHES_PER_EPOCH)
        return Refill(
            self.buffer,
            PreprocessorFiles(role, self.buffer, self.manifest, self.observer),
            self.assignments,
            ProgressFollower(self.buffer.folder, steps, self.observer),
            RefillSettings(buffer_size=4, refill_below=1.0, sleep_seconds=0.05),
            functools.partial(self.pool, address),
            observer=RecordingObserver(notify=self.observer.notify, show=show),
        )

    def files_of(self, buffer, step):
        position = to_position(step, BATCHES_PER_EPOCH)
        paths = buffer.images_path(position), buffer.labels_path(position)
        return tuple(path.read_bytes() for path in paths)

    def reference(self, folder):
        """Every batch's files, made in this process."""
        folder.mkdir()
        buffer, files = BatchBuffer(folder), {}
        for step in range(END_STEP):
            position = to_position(step, BATCHES_PER_EPOCH)
            make_and_write(self.settings, buffer, self.assignments[position])
            files[step] = self.files_of(buffer, step)
        return files


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


class Trainer:
    """Consumes batches in the preprocessor's polls; does something at some steps."""

    def __init__(self, host, events):
        self.host = host
        self.events = events
        self.consumed = {}
        self.num_polls = 0

    def __call__(self, status):
        self.num_polls += 1
        assert self.num_polls < MANY_POLLS, "the run does not come to an end"
        step = len(self.consumed)
        position = to_position(step, BATCHES_PER_EPOCH)
        if step < END_STEP and position in self.host.buffer.ready():
            self.consumed[step] = self.host.files_of(self.host.buffer, step)
            write_progress(
                self.host.buffer.folder, to_position(step + 1, BATCHES_PER_EPOCH)
            )
            if step in self.events:
                self.events.pop(step)()


@pytest.mark.parametrize("transfer", ["folder", "network"])
def test_killed_worker_and_killed_scheduler_cost_no_batch(transfer, tmp_path):
    """All files equal the local ones. A worker dies at step 2, the scheduler at step 5.

    After that a scheduler at the same address gets new workers, and the rest is made.
    """
    host = Host(tmp_path, transfer=transfer)
    port = free_port()
    with contextlib.ExitStack() as processes:
        scheduler, address = processes.enter_context(scheduler_process(port))
        workers = [processes.enter_context(worker_process(address)) for _ in range(2)]
        for worker in workers:
            started(worker)

        def restart_everything():
            scheduler.kill()
            scheduler.wait()
            while not any("the scheduler is lost (" in line for line in host.said):
                time.sleep(0.05)
            processes.enter_context(scheduler_process(port))
            processes.enter_context(worker_process(address))

        events = {2: workers[0].kill, 5: restart_everything}
        trainer = Trainer(host, events)
        host.refill(address, trainer).run()
    assert events == {}
    assert trainer.consumed == host.reference(tmp_path / "reference")
    text = "\n".join(host.said)
    assert f"{address}: 2 workers" in text, text
    assert text.count("the scheduler is lost (") == 1, text
    assert text.count("the scheduler is back") == 1, text
    assert "batches are being created again" in text, text
    # Of a batch that was listed and trained before its worker reported it.
    assert "it is not here" not in text, text


@pytest.mark.parametrize("transfer", ["folder", "network"])
def test_a_stopped_worker_does_not_stop_the_others(transfer, tmp_path, monkeypatch):
    """Its batches are made by another one, though it may hold both receivers.

    The other worker comes when the first has stopped, so the first certainly has tasks.
    """
    monkeypatch.setattr(connection, "_SILENT_SECONDS", 1.5)
    host = Host(tmp_path, transfer=transfer)
    with contextlib.ExitStack() as processes:
        _, address = processes.enter_context(scheduler_process())
        stopped = processes.enter_context(worker_process(address))
        where = started(stopped)

        def stop():
            stopped.send_signal(signal.SIGSTOP)
            processes.enter_context(worker_process(address))

        trainer = Trainer(host, {2: stop})
        host.refill(address, trainer).run()
    assert trainer.consumed == host.reference(tmp_path / "reference")
    text = "\n".join(host.said)
    assert f"{where}: the scheduler has not heard from this worker for" in text, text
    assert "batches are being created again" in text, text


def test_the_only_worker_is_named_when_it_stops_and_used_when_it_returns(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(connection, "_SILENT_SECONDS", 1.5)
    host = Host(tmp_path, transfer="network")
    with scheduler_process() as (_, address), worker_process(address) as worker:
        where = started(worker)
        trainer = Trainer(host, {2: lambda: worker.send_signal(signal.SIGSTOP)})

        def show(status):
            if any(f"{where}: the scheduler has not heard" in s for s in host.said):
                worker.send_signal(signal.SIGCONT)
            trainer(status)

        host.refill(address, show).run()
    assert trainer.consumed == host.reference(tmp_path / "reference")
    assert host.said[-1] == "batches are being created again"


@pytest.fixture(scope="module")
def worker_of_archives():
    """A scheduler's address, and a worker; ended after the last test of archives."""
    with scheduler_process() as (_, address), worker_process(address) as worker:
        started(worker)
        yield address


def write_class_archives(folder, images):
    return write_files(folder, dict(class_tars(images)))


@pytest.mark.parametrize("transfer", ["folder", "network"])
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(write_official_archive, id="archive of archives"),
        pytest.param(write_class_archives, id="archive per class"),
        pytest.param(functools.partial(write_shards, compression="none"), id="shards"),
        pytest.param(
            functools.partial(write_shards, compression="snappy"), id="snappy shards"
        ),
    ],
)
def test_workers_read_archives_and_shards(
    write, transfer, worker_of_archives, tmp_path
):
    """They make the same files as this process, from an image's range in an archive."""
    if "compression" in getattr(write, "keywords", {}):
        pytest.importorskip("pyarrow")
    host = Host(tmp_path, write(tmp_path / "images", make_images()), transfer)
    expected = host.reference(tmp_path / "reference")
    with host.pool(worker_of_archives) as pool:
        for step in range(2):
            position = to_position(step, BATCHES_PER_EPOCH)
            task = host.settings, host.buffer, host.assignments[position]
            assert all(source.name for source in task[2].sources)
            assert pool.submit(make_and_write, *task).result() == []
            assert host.files_of(host.buffer, step) == expected[step]


def test_unequal_hosts_are_refused_and_later_ones_get_no_work(host, monkeypatch):
    """Seven ways to differ, each in one line; then an equal worker is accepted."""
    monkeypatch.setattr(shared_folder, "_OPENING_LAG_SECONDS", 0.2)
    import_pillow = "import PIL.Image; PIL.__version__ = '1.0'"
    elsewhere = """if True:
        from resnet50.handoff import shared_folder
        write = shared_folder.SharedBuffer.leave_probe
        def leave_probe(self):
            path = write(self)
            path.unlink()  # As if it were in another folder with this path.
            return path
        shared_folder.SharedBuffer.leave_probe = leave_probe
    """
    no_manifest = """if True:
        from resnet50.handoff import shared_folder
        shared_folder.read_manifest = lambda folder: None
        shared_folder._OPENING_LAG_SECONDS = 0
    """
    inspection = "from resnet50.preprocessing.dask import inspection; inspection."
    no_images = inspection + "_digest = lambda source: ''"
    other_images = inspection + "_digest = lambda source: 'another'"
    first = host.dataset.sources([0])[0]
    faults = [
        (
            {"before": "sys.modules['resnet50'] = None"},
            "cannot run this project's code: No module named 'resnet50",
        ),
        ({"before": import_pillow}, "pillow_version is 1.0 there and "),
        ({"before": elsewhere}, "does not appear here (every host must mount"),
        ({"before": no_manifest}, "is not the buffer folder there, it has no manifest"),
        ({"before": no_images}, f"cannot read {first} (images need the same path"),
        ({"before": other_images}, f"{first} has other bytes there (every host"),
        ({"threads": 2}, "has 2 threads (start it: --nthreads 1)"),
    ]
    with scheduler_process() as (_, address):
        for fault, expected in faults:
            with worker_process(address, **fault) as worker:
                where = started(worker)
                with pytest.raises(DaskError, match=re.escape(expected)) as caught:
                    host.pool(address).__enter__()
                assert str(caught.value).startswith(f"{where}: ")
                assert "\n" not in str(caught.value)
        with (
            host.pool(address) as pool,
            worker_process(address, before=import_pillow) as worker,
        ):
            where = started(worker)
            while not any(where in line for line in host.said):
                assert worker.poll() is None
                time.sleep(0.05)
            assert host.said[-1].endswith("; it gets no work")
            error = pool.submit(square, 3).exception()
            assert isinstance(error, NoWorkerError)
            assert f"dask worker --nthreads 1 --nworkers N {address}" in str(error)
            with worker_process(address):
                while pool.submit(square, 3).exception() is not None:
                    time.sleep(0.05)
                pids = {pool.submit(os.getpid).result() for _ in range(4)}
                assert worker.pid not in pids
            # That worker was killed. Its files are deleted when nobody is writing.
            leftover = host.buffer.folder / ".writing-killed.npy.tmp"
            leftover.touch()
            while leftover.exists():
                time.sleep(0.05)
    assert list(host.buffer.folder.glob(".writing-*")) == []


def test_worker_that_does_not_answer_this_host_is_refused(tmp_path):
    """The scheduler hears from it. With transfer = "network" that is not enough."""
    closed = f"tcp://127.0.0.1:{free_port()}"
    before = f"""if True:
        import functools
        Worker = functools.partial(Worker, contact_address="{closed}")
    """
    host = Host(tmp_path, transfer="network")
    with (
        scheduler_process() as (_, address),
        worker_process(address, before=before) as worker,
    ):
        assert started(worker) == closed
        with pytest.raises(DaskError) as caught:
            host.pool(address).__enter__()
    assert str(caught.value) == (
        f"{closed}: cannot be reached from this host: Connection refused (with "
        'transfer = "network" this host connects to each worker\'s port)'
    )


def test_unreachable_scheduler_is_one_line(host, monkeypatch):
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 0.5)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(DaskError) as caught:
        host.pool(address).__enter__()
    text = str(caught.value)
    assert text.startswith(f"{address}: no dask scheduler answers: Connection refused ")
    assert text.endswith(
        "(start `dask scheduler`; see [runtime_preprocessing] scheduler)"
    )
    assert "\n" not in text


def test_another_program_on_the_port_is_one_line(host, monkeypatch):
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(DaskError) as caught:
            host.pool(address).__enter__()
    text = str(caught.value)
    assert text.startswith(f"{address}: no dask scheduler answers: ")
    assert text.endswith("(is it one, running, and with the same tcp:// or tls://?)")
    assert "\n" not in text


def test_tls_without_a_certificate_is_one_line(host):
    with pytest.raises(DaskError) as caught:
        host.pool("tls://127.0.0.1:1").__enter__()
    assert str(caught.value).startswith(
        "tls://127.0.0.1:1: this host has no certificate for tls:// (set ca-file"
    )


def test_distributed_prints_nothing():
    """Also if it is imported only when the pool connects, as in the real program."""
    program = """if True:
        import logging
        from resnet50.preprocessing.dask.connection import quiet_distributed
        quiet_distributed()
        from distributed import Client
        logging.getLogger("distributed.client").error("a traceback")
    """
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_missing_package_is_one_line(host, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(DaskError, match=r"pip install -e '\.\[cluster\]'"):
        host.pool("tcp://127.0.0.1:1").__enter__()
