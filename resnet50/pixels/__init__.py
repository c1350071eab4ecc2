"""The six steps: pure functions of an image and of what was drawn for it."""
