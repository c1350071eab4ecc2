"""A pair of programs that seems to run, for other tests."""

import contextlib

import numpy as np

from resnet50.config.toml_file import read_config
from resnet50.handoff import locks
from resnet50.handoff.buffer import BatchBuffer
from resnet50.handoff.manifest import write_manifest
from resnet50.handoff.progress import to_position, write_progress
from resnet50.message_log import MessageLog, file_name
from tests.reports.runs import make_run
from tests.settings import write_small_config


class Pair:
    """The folders of a pair, 10 batches of 4 an epoch, with a clock of its own."""

    def __init__(self, folder, *, num_epochs=2):
        self.config_path = write_small_config(folder)  # A buffer of 6, 2 epochs.
        self.config = read_config(self.config_path)
        self.buffer = BatchBuffer(self.config.train.buffer_folder)
        self.buffer.folder.mkdir()
        self.run_folder = make_run(folder / "saved_models" / "mine", num_epochs)
        write_manifest(self.buffer.folder, {"num_images": 43, "batch_size": 4})
        self.seconds = 1000.0
        self._roles = contextlib.ExitStack()

    def train_to(self, step):
        """Trains up to a step, and deletes what is behind it."""
        position = to_position(step, 10)
        write_progress(self.buffer.folder, position)
        for behind in self.buffer.ready():
            if behind < position:
                self.buffer.delete(behind)

    def make(self, *steps):
        """Makes batches."""
        for step in steps:
            images = np.zeros((4, 2, 2, 3), np.float16)
            labels = np.zeros(4, np.int32)
            self.buffer.write(to_position(step, 10), images, labels)

    def start(self, *roles):
        """Takes locks like the programs of these roles."""
        for role in roles:
            for folder in (self.buffer.folder, self.run_folder):
                self._roles.enter_context(locks.exclusive_role(folder, role))

    def stop(self):
        """Ends the programs."""
        self._roles.close()

    def say(self, role, text):
        """Adds a message to a program's log."""
        log, is_trainer = MessageLog(), role == locks.TRAINER
        folder = self.run_folder if is_trainer else self.buffer.folder
        log.keep_in(folder / file_name(role))
        log.add(text)
