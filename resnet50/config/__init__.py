"""The settings of config.txt: what they are, what they may be, how they are read."""
