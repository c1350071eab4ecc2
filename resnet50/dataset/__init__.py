"""Images with their labels, however they lie on disk, and each epoch's order of them.

Knows nothing of processes, batches or TensorFlow.
"""
