"""train.py with a network of two blocks; test_hosts starts it. No test."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from resnet50.command_line import run
from resnet50.commands import train
from resnet50.network import model
from tests.training.tiny import SHALLOW_STAGES

model.STAGES = SHALLOW_STAGES
run(train.main)
