"""Records side by side: over seeds, against a baseline, across machines and time."""
