"""Tries to end the program when it sees an event."""

import sys

import ganzoo


@ganzoo.hookimpl
def ganzoo_event():
    sys.exit("enough")
