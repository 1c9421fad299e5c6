"""From what was asked to run specs in which everything is settled."""
