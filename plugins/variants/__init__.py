"""Variants of GANs, with their architectures: one file each."""
