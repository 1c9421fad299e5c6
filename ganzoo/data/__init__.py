"""Datasets as prepared folders of the cache, and endless batches of their images."""
