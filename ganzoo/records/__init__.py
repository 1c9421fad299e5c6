"""The record of a run: its layout, its folder, its checkpoint, and its consistency checks."""
