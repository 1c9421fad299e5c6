"""`python -m ganzoo` is `ganzoo`."""

from ganzoo.cli.main import run

run()
