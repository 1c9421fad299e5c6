"""Scores from the features of real and generated images."""
