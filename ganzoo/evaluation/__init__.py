"""Drawing from generators, features of images, scores and their protocols."""
