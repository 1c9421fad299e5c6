"""How a check ends that does not return."""


class Failed(Exception):
    """A check failed. The message says what is wrong and how to fix it."""


class Skipped(Exception):
    """A check does not apply here. The message says why."""
