"""Trains a ResNet-50; see resnet50/commands/train.py, and --help.

python3 train.py --run_folder=mytestrun --epoch_start=0 --epoch_end=30
--batch_size=64 --learning_rate=0.01
"""

from resnet50 import command_line

if __name__ == "__main__":
    command_line.run_command("train")
