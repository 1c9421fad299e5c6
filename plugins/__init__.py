"""The zoo that comes with ganzoo: one file, one plugin. It enters by the same entry points as anyone's."""
