"""The preprocessing process: from image files to batch files.

Never loads TensorFlow.
"""
