"""What a person sees of a run: curves, a page, TensorBoard, a running pair's state."""
