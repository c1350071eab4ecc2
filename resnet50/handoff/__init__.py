"""Everything that the two processes share: batch files and a two-line text file.

Imports neither side, and never TensorFlow.
"""
