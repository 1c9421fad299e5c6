"""Losses and penalties that go with any architecture."""
