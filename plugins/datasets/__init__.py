"""Datasets: embedded, downloaded, or any folder of images."""
