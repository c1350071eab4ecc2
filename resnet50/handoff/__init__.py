"""All that the two processes share: a folder of batch files and a two-line text file.

Imports neither of the two rooms that use it, and never TensorFlow.
"""
