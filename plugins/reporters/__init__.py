"""Comparisons as text for other programs."""
