"""The record of a run: its layout, its folder, its checkpoint, and what must be true of it."""
