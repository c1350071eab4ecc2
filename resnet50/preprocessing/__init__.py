"""The preprocessing process: image files to batch files, without TensorFlow."""
