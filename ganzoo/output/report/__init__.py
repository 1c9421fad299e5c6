"""One HTML page of records."""
