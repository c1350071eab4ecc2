"""The six steps: pure functions of an image and its random choices."""
