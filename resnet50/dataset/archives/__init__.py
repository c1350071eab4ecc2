"""Images in tar archives and Parquet shards, read in place."""
