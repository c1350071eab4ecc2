"""Images in tar archives behind HTTP or on an object store, read by range."""
