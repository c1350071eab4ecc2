"""Computes mean and std; see resnet50/commands/compute_channel_stats.py, and --help.

python3 compute_channel_stats.py --write
"""

from resnet50 import command_line

if __name__ == "__main__":
    command_line.run_command("compute_channel_stats")
