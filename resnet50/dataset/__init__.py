"""Images with their labels in any layout on disk, and their order in each epoch.

Knows nothing of processes, batches or TensorFlow.
"""
