"""Workers of a dask cluster instead of processes on this machine."""
