"""Observers that send curves elsewhere."""
