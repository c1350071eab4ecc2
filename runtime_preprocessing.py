"""Keeps the buffer filled; see resnet50/commands/runtime_preprocessing.py, and --help.

python3 runtime_preprocessing.py --epoch_start=0 --epoch_end=30 --batch_size=64
"""

from resnet50 import command_line

if __name__ == "__main__":
    command_line.run_command("runtime_preprocessing")
