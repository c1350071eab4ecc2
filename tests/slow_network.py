"""Proves that batches arrive over a slow network that breaks, with bounded memory.

    python -m tests.slow_network [--only=TEXT]

Needs Linux, root, iproute2 and openssl. The workers are in a network namespace of their
own, as on another host, behind a link of 100 Mbit/s. The scheduler and the real
runtime_preprocessing.py, with transfer = "network", are on the other side. Each row
prints what it measured; in the end every batch must have the bytes that this process
makes, and no traceback may have been printed.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from resnet50.config.toml_file import read_config
from resnet50.dataset.listing import open_training_set
from resnet50.handoff.buffer import BatchBuffer
from resnet50.preprocessing.batches import Assignments, BatchSettings
from resnet50.preprocessing.refill import make_and_write
from tests.images import make_class_folders
from tests.processes import resident_bytes
from tests.settings import PROJECT, write_small_config

_HERE, _THERE, _PORT = "10.0.0.1", "10.0.0.2", 8786
_LINK_MB = 12.5  # per second
_SECONDS = 240  # No step takes half of this, even on a busy machine.
_INSIDE = "SLOW_NETWORK_INSIDE"


def why_not() -> str:
    """Why this cannot run here; "" if it can."""
    missing = [name for name in ("ip", "tc", "unshare") if not shutil.which(name)]
    if missing or sys.platform != "linux":
        return f"needs Linux and {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "needs root"


def wait_until(is_done: Callable[[], bool], what: str) -> float:
    """Polls; returns the seconds that it took, or fails."""
    started = time.monotonic()
    while not is_done():
        assert time.monotonic() < started + _SECONDS, f"this does not happen: {what}"
        time.sleep(0.1)
    return time.monotonic() - started


def run(*command: str) -> None:
    """Runs a program, which must succeed."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def link() -> Iterator[list[str]]:
    """Makes the link; yields the words before a command on its other side.

    Runs in a network namespace of its own already.
    """
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    there = ["nsenter", "--net", f"--target={holder.pid}"]
    ours = Path("/proc/self/ns/net").readlink()
    theirs = Path(f"/proc/{holder.pid}/ns/net")
    try:
        wait_until(lambda: theirs.readlink() != ours, "a second namespace")
        far = ["name", "far", "netns", str(holder.pid)]
        run("ip", "link", "add", "name", "near", "type", "veth", "peer", *far)
        run("ip", "address", "add", f"{_HERE}/24", "dev", "near")
        run(*there, "ip", "address", "add", f"{_THERE}/24", "dev", "far")
        for words in ([], ["near"]), ([], ["lo"]), (there, ["far"]), (there, ["lo"]):
            run(*words[0], "ip", "link", "set", *words[1], "up")
        rate = ["rate", "100mbit", "burst", "256kb", "latency", "50ms"]
        run(*there, "tc", "qdisc", "add", "dev", "far", "root", "tbf", *rate)
        yield there
    finally:
        holder.kill()
        holder.wait()


def peak_mb(process: subprocess.Popen) -> float:
    """The largest resident memory that a process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


class Cluster:
    """A scheduler here, workers on the other side, and the preprocessor here."""

    def __init__(self, folder: Path, there: list[str], scheme: str, **train):
        self.folder, self.there = folder, there
        self.address = f"{scheme}://{_HERE}:{_PORT}"
        make_class_folders(folder / "images" / "train", 8, 32)
        section = {
            "executor": "dask",
            "transfer": "network",
            "scheduler": self.address,
            "sleep_time": 0.2,
        }
        self.config = write_small_config(
            folder,
            augmentation={
                "shorter_side_min": 224,
                "shorter_side_max": 224,
                "crop_size": 224,
            },
            train={"epochs": 90, "dtype": "float16", "buffer_size": 12} | train,
            runtime_preprocessing=section,
            evaluation={"shorter_side": 256},
        )
        config = read_config(self.config)
        self.settings = BatchSettings.from_config(config)
        self.dataset = open_training_set(config.dataset, None)
        self.buffer = BatchBuffer(config.train.buffer_folder)
        self.buffer.folder.mkdir()
        self.batch_mb = self.settings.spec(self.dataset).batch_bytes / 1e6
        self.log = folder / "log.txt"
        self.processes = contextlib.ExitStack()
        self.workers: list[subprocess.Popen] = []

    def start(self, *command: str, log: int = subprocess.DEVNULL) -> subprocess.Popen:
        """Starts a program, which ends with the row."""
        process = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log)
        self.processes.callback(process.wait)
        self.processes.callback(process.kill)
        return process

    def start_scheduler(self) -> None:
        """Starts the scheduler."""
        words = "--host", _HERE, "--port", str(_PORT), "--no-dashboard"
        command = sys.executable, "-m", "distributed.cli.dask_scheduler", *words
        if self.address.startswith("tls"):
            command = *command, "--protocol", "tls"
        self.scheduler = self.start(*command)

    def start_worker(self) -> None:
        """Starts a worker."""
        words = "--nthreads", "1", "--no-nanny", "--no-dashboard"
        command = sys.executable, "-m", "distributed.cli.dask_worker", self.address
        self.workers.append(self.start(*self.there, *command, *words))

    def start_preprocessor(self) -> None:
        """Starts the preprocessor when the scheduler has the workers."""
        from distributed import Client

        def has_workers() -> bool:
            # On a busy machine the scheduler may need longer than its workers.
            with contextlib.suppress(OSError), Client(self.address) as client:
                return len(client.nthreads()) == len(self.workers)
            return False

        wait_until(has_workers, "workers")
        command = sys.executable, "runtime_preprocessing.py", f"--config={self.config}"
        with self.log.open("a") as log:
            self.preprocessor = self.start(*command, log=log.fileno())

    def num_ready(self) -> int:
        """Batches in the buffer."""
        return len(self.buffer.ready())

    def wait_for(self, number: int) -> float:
        """Waits for a number of batches in the buffer; returns the seconds."""

        def is_there() -> bool:
            assert self.preprocessor.poll() is None, self.log.read_text()
            return self.num_ready() >= number

        return wait_until(is_there, f"{number} batches\n{self.log.read_text()}")

    def keys_of_workers(self) -> int:
        """How many results the workers keep."""
        from distributed import Client

        with Client(self.address) as client:
            return sum(map(len, client.has_what().values()))

    def wait_for_line(self, text: str) -> None:
        """Waits until the preprocessor has said something."""
        wait_until(lambda: text in self.log.read_text(), text)

    def check(self) -> None:
        """Compares all batches with those that this process makes."""
        assert "Traceback" not in self.log.read_text(), self.log.read_text()
        assignments = Assignments(self.dataset, self.settings)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            local = BatchBuffer(Path(name))
            for position in sorted(self.buffer.ready()):
                make_and_write(self.settings, local, assignments[position])
                for path in BatchBuffer.images_path, BatchBuffer.labels_path:
                    ours = path(self.buffer, position).read_bytes()
                    assert ours == path(local, position).read_bytes(), position
                local.delete(position)


@dataclasses.dataclass
class Row:
    """A trial: what is tried, with how many workers, and how."""

    name: str
    act: Callable[[Cluster], str]  # returns what it measured
    num_workers: int = 1
    scheme: str = "tcp"
    batch_size: int = 64


def received_mb() -> float:
    """What has come over the link so far."""
    command = ["ip", "-json", "-statistics", "link", "show", "near"]
    found = json.loads(subprocess.check_output(command))
    return found[0]["stats64"]["rx"]["bytes"] / 1e6


def fill(cluster: Cluster) -> str:
    """Memory of all, and how much of the link is used."""
    cluster.wait_for(1)
    before = received_mb()
    seconds = cluster.wait_for(6)
    rate = (received_mb() - before) / seconds
    peaks = {
        "preprocessor": peak_mb(cluster.preprocessor),
        "scheduler": peak_mb(cluster.scheduler),
        "worker": max(map(peak_mb, cluster.workers)),
    }
    assert rate > 0.8 * _LINK_MB, rate
    if cluster.batch_mb > 50:  # Smaller ones fill the buffer too soon.
        cluster.wait_for_line("the workers wait: their batches arrive at ")
    return f"{rate / _LINK_MB:.0%} of the link's rate; batches of " + ", ".join(
        [f"{cluster.batch_mb:.0f} MB", *(f"{n} {mb:.0f} MB" for n, mb in peaks.items())]
    )


def stop(cluster: Cluster, number: signal.Signals) -> str:
    """The preprocessor is stopped while it receives a batch, and started again."""
    cluster.wait_for(1)
    time.sleep(0.5)
    assert cluster.keys_of_workers() > 0
    cluster.preprocessor.send_signal(number)
    seconds = wait_until(lambda: cluster.preprocessor.poll() is not None, "its end")
    assert seconds < 15, seconds  # Some of it is a busy machine's.
    after = wait_until(lambda: cluster.keys_of_workers() == 0, "no result kept")
    worker = resident_bytes(cluster.workers[0].pid) / 1e6
    cluster.start_preprocessor()
    cluster.wait_for(4)
    return (
        f"ended after {seconds:.1f} s; the workers kept nothing after {after:.1f} s "
        f"(one has {worker:.0f} MB)"
    )


def kill_worker(cluster: Cluster) -> str:
    """A worker is killed while it sends a batch."""
    cluster.wait_for(1)
    time.sleep(0.5)
    cluster.workers[0].kill()
    seconds = cluster.wait_for(6)
    return f"all batches are there {seconds:.1f} s later"


def kill_scheduler(cluster: Cluster) -> str:
    """The scheduler is killed while a batch is sent, and started with new workers."""
    cluster.wait_for(1)
    time.sleep(0.5)
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    cluster.wait_for_line("the scheduler is lost")
    cluster.start_scheduler()
    cluster.start_worker()
    seconds = cluster.wait_for(6)
    return f"all batches are there {seconds:.1f} s after the restart"


def cut(cluster: Cluster) -> str:
    """The cable is pulled for 20 seconds while a batch is sent."""
    cluster.wait_for(1)
    time.sleep(0.5)
    before = cluster.num_ready()
    run(*cluster.there, "ip", "link", "set", "far", "down")
    time.sleep(20)
    assert cluster.num_ready() <= before + 1
    run(*cluster.there, "ip", "link", "set", "far", "up")
    seconds = cluster.wait_for(6)
    return f"all batches are there {seconds:.1f} s after the link"


def fill_disk(cluster: Cluster) -> str:
    """Another file fills the disk until there is room for half a batch."""
    cluster.wait_for(1)
    folder = cluster.buffer.folder
    with (folder / "another").open("wb") as file:
        free = shutil.disk_usage(folder).free
        os.posix_fallocate(file.fileno(), 0, free - int(cluster.batch_mb * 0.5e6))
    cluster.wait_for_line("No space left on device")
    before = peak_mb(cluster.preprocessor)
    time.sleep(5)
    growth = peak_mb(cluster.preprocessor) - before
    (folder / "another").unlink()
    cluster.wait_for(6)
    cluster.wait_for_line("batches are being created again")
    return f"waited with {growth:+.0f} MB, then went on"


ROWS = [
    Row("memory and rate", fill, 2, batch_size=256),
    Row("Ctrl-C", functools.partial(stop, number=signal.SIGINT)),
    Row("kill -9 of the preprocessor", functools.partial(stop, number=signal.SIGKILL)),
    Row("kill -9 of a worker", kill_worker, 2),
    Row("kill -9 of the scheduler", kill_scheduler),
    Row("link cut", cut),
    Row("full disk", fill_disk),
    Row("TLS", fill, scheme="tls"),
]


def make_certificate(folder: Path) -> None:
    """Makes a key and its own certificate, and lets dask use them for all."""
    import dask

    key, certificate = folder / "key.pem", folder / "certificate.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=cluster"
    files = "-keyout", str(key), "-out", str(certificate)
    subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True)
    section = f"{{key: {key}, cert: {certificate}}}"
    roles = "".join(
        f"\n      {r}: {section}" for r in ("scheduler", "worker", "client")
    )
    (folder / "distributed.yaml").write_text(
        "distributed:\n  comm:\n    require-encryption: true\n    tls:\n"
        f"      ca-file: {certificate}{roles}\n"
    )
    os.environ["DASK_CONFIG"] = str(folder)
    dask.config.refresh(paths=[str(folder)])


def try_row(row: Row, folder: Path) -> str:
    """Runs a row in a folder; returns what it measured."""
    with link() as there:
        size = {"batch_size": row.batch_size}
        cluster = Cluster(folder, there, row.scheme, **size)
        if row.name == "full disk":
            target = str(cluster.buffer.folder)
            run("mount", "-t", "tmpfs", "-o", "size=1g", "none", target)
            cluster.processes.callback(run, "umount", target)
        with cluster.processes:
            cluster.start_scheduler()
            for _ in range(row.num_workers):
                cluster.start_worker()
            cluster.start_preprocessor()
            found = row.act(cluster)
            cluster.preprocessor.kill()
            cluster.check()
        return found


def main() -> None:
    """Tries the rows, each in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name has this text")
    args = parser.parse_args()
    if reason := why_not():
        parser.exit(1, f"{reason}\n")
    if _INSIDE not in os.environ:
        os.environ[_INSIDE] = "yes"
        words = [sys.executable, "-m", "tests.slow_network", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--net", "--mount", *words])
    from resnet50.preprocessing.dask.connection import quiet_distributed

    quiet_distributed()
    for row in ROWS:
        if args.only in row.name:
            with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
                if row.scheme == "tls":
                    make_certificate(Path(name))
                print(f"{row.name}: {try_row(row, Path(name))}", flush=True)


if __name__ == "__main__":
    main()
