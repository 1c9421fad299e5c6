"""Text, files, streams, signals, images and numbers: what knows nothing of GANs."""
