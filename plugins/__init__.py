"""The zoo that comes with ganzoo: one file, one plugin. It uses the entry points that every other plugin uses."""
