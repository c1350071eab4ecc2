"""Reports on a run: tables, curves, a page, TensorBoard, previews, status."""
