"""`python -m ganzoo` is `ganzoo`."""

from ganzoo.cli import run

run()
