"""Feature extractors, with the weights that ganzoo ships."""
