"""From run specs to records: one process for each run."""
