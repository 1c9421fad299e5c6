"""Fails at everything it sees."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_event(event):
    raise ConnectionError("the dashboard is down")
