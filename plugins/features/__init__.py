"""Feature extractors, with the weights that come along."""
