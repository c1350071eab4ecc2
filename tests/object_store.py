"""Trains nothing, but feeds the preprocessor from a real S3 server that has bad days.

    python -m tests.object_store

starts moto's server, which speaks S3, and puts images into a bucket, in shards. Between
server and client stands a proxy that delays, cuts off and refuses answers. The batches
must be those of a local copy, bit for bit, whatever the proxy does. Takes two minutes;
needs moto[server] and s3fs (extra objectstore).
"""

import argparse
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from resnet50.dataset.images import Dataset, DatasetError
from resnet50.dataset.listing import open_dataset
from resnet50.dataset.remote import store
from resnet50.dataset.remote.image_cache import CacheSettings
from tests.dataset.layout_examples import make_images, shuffled, tar_of, write_files
from tests.dataset.remote.servers import IMPATIENT
from tests.dataset.test_layouts import all_batches
from tests.full_disk import Program
from tests.settings import write_small_config

# What the tests need besides .[tests], or None.
MISSING = next(
    (
        name
        for name in ("moto", "flask", "s3fs")
        if importlib.util.find_spec(name) is None
    ),
    None,
)

IMAGES = make_images()
BUCKET = "images-of-tests"
TRAINING = f"s3://{BUCKET}/imagenet/train"


class BadDays:
    """A proxy before a server on this machine, which does to answers what it is told.

    "": nothing. "slow": each waits. "cut": the first bytes only. "refuse": none.
    """

    def __init__(self, port: int):
        self._target = ("127.0.0.1", port)
        self.mode = ""
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._socket.accept()
            if self.mode == "refuse":
                client.close()
                continue
            server = socket.create_connection(self._target)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=ends, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError), source, target:
            is_answer = source.getpeername() == self._target
            while data := source.recv(2**16):
                if self.mode == "refuse":
                    break
                if is_answer and self.mode == "slow":
                    time.sleep(0.1)
                if is_answer and self.mode == "cut":
                    target.sendall(data[: len(data) * 2 // 3])
                    break
                target.sendall(data)
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)


def environment(url: str) -> dict[str, str]:
    """The variables with the endpoint and the credentials."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def s3_server() -> Iterator[BadDays]:
    """Yields a proxy before an S3 server, to which the environment points."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            for _ in range(600):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            proxy = BadDays(port)
            os.environ |= environment(proxy.url)
            yield proxy
        finally:
            server.kill()


def upload() -> None:
    """Puts two shards of class folders into a bucket."""
    import s3fs

    files = s3fs.S3FileSystem()
    files.mkdir(BUCKET)
    entries = shuffled(IMAGES)
    for number, part in enumerate((entries[:5], entries[5:])):
        files.pipe(f"{TRAINING}/train-{number:04}.tar", tar_of(part))
    files.pipe(f"{TRAINING}/readme.txt", b"no archive")


def require_same_batches(local: Dataset, remote: Dataset) -> None:
    """All batches are equal, and none has a replaced image."""
    assert remote.fingerprint == local.fingerprint
    for batch, wanted in zip(all_batches(remote), all_batches(local)):
        assert batch.unreadable == []
        np.testing.assert_array_equal(batch.images, wanted.images)


def check_in_this_process(folder: Path, proxy: BadDays) -> None:
    """Lists and reads, from a server that is well, slow, cuts off, and is away."""
    write_files(folder / "train", IMAGES)
    local = open_dataset(folder / "train", None)
    before, store.PATIENCE = store.PATIENCE, IMPATIENT._replace(request=5)
    cache = CacheSettings(str(folder / "cache"), 10**9)
    remote = open_dataset(TRAINING, None, (), folder)
    require_same_batches(local, remote)
    proxy.mode = "slow"
    require_same_batches(local, open_dataset(TRAINING, None, (), folder))
    for bad in ("cut", "refuse"):
        proxy.mode = bad
        try:
            all_batches(remote)
        except store.StoreAwayError as error:
            print(error)
            assert "a-secret" not in str(error)
        else:
            raise AssertionError(f"{bad}: batches were made")
        proxy.mode = ""
        require_same_batches(local, remote)
    cached = open_dataset(TRAINING, None, (), folder, cache=cache)
    require_same_batches(local, cached)
    proxy.mode = "refuse"
    require_same_batches(local, cached)
    proxy.mode = ""
    for url in (f"{TRAINING}/none.tar", f"s3://{BUCKET}-2/a", f"s3://{BUCKET}/none"):
        try:
            open_dataset(url, None)
        except DatasetError as error:
            print(error)
            assert str(error).startswith(f"{url}: ")
        else:
            raise AssertionError(f"{url}: was opened")
    store.PATIENCE = before


def batch_files(folder: Path) -> dict[str, bytes]:
    """The files of a buffer's batches."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npy"))}


def fill(config: Path, num_batches: int) -> Iterator[Program]:
    """Starts the preprocessor, and waits until its buffer has some batches."""
    program = Program(
        config, "runtime_preprocessing.py", "--epoch_start=0", "--epoch_end=2"
    )
    yield program
    while len(list((config.parent / "buffer").glob("images_*.npy"))) < num_batches:
        program.wait_for("images of 3 classes")
        time.sleep(0.1)
    program.stop()


def check_the_program(folder: Path, proxy: BadDays) -> None:
    """Workers in processes of their own; the server goes away, and comes back."""
    outputs = {}
    for name, images in (("local", str(folder / "train")), ("remote", TRAINING)):
        (folder / name).mkdir()
        workers = {"num_workers": 2, "sleep_time": 0.2}
        config = write_small_config(
            folder / name,
            dataset={"training_images": images},
            train={"buffer_folder": "buffer", "buffer_size": 6},
            runtime_preprocessing=workers,
        )
        filling = fill(config, 6)
        program = next(filling)
        if name == "remote":
            program.wait_for("an epoch")
            proxy.mode = "refuse"
            program.wait_for("cannot be made")
            print(program.output.splitlines()[-1])
            proxy.mode = ""
            program.wait_for("batches are being created again")
        assert next(filling, None) is None
        outputs[name] = batch_files(folder / name / "buffer")
    assert outputs["local"] == outputs["remote"]
    assert len(outputs["local"]) == 12


def main() -> None:
    """Runs all checks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    if MISSING:
        sys.exit(f"{MISSING} is missing (pip install 'moto[server]' s3fs)")
    with tempfile.TemporaryDirectory() as scratch, s3_server() as proxy:
        folder = Path(scratch)
        upload()
        check_in_this_process(folder, proxy)
        check_the_program(folder, proxy)
    print("as it should be")


if __name__ == "__main__":
    main()
