"""One run's training: players, phases, the step and the loop."""
