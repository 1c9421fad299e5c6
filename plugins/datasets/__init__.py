"""Datasets, embedded, downloaded or a folder of the user's."""
