"""The machine: what it is, how it is set, its meters and clocks."""
