"""The settings of config.txt: a list of them, their checks, and the reader."""
