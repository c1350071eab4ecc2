"""train.py with a network of two blocks; test_hosts starts it. No test."""

import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from resnet50.command_line import run
from resnet50.commands import train
from resnet50.training import session
from resnet50.training.update.step import create_training
from tests.training.tiny import SHALLOW_STAGES

session.create_training = functools.partial(create_training, stages=SHALLOW_STAGES)
run(train.main)
