"""Yields the type of a record in place of a record."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_reporters():
    yield ganzoo.Reporter
