"""The demo's pictures and processes."""
