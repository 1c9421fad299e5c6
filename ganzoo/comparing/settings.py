"""Which settings of runs make a row of a comparison, and which a race."""

from __future__ import annotations

SETTINGS = ("variant", "dataset", "image_size", "kimg", "batch_size", "precision", "device", "threads", "hardware")
"""Records that agree in these, and whose specs otherwise differ in the seed only, are one row of a comparison."""

RACE = ("dataset", "image_size", "kimg")
"""Rows that agree in these had the same images and the same budget.

They are told apart on one hardware at a time, for a variant that ran on several would count as several.
"""
