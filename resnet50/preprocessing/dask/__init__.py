"""The workers of a dask cluster in place of this machine's processes."""
