"""What can go wrong, as a tree. Every message is one line and names the fix.

GanzooError                 exit code 2: nothing was trained
├── UsageError              the request itself is wrong: a name, a number, a combination
│   ├── UnknownName         a variant, dataset, metric … that nobody offers
│   └── AmbiguousName       a name that several plugins offer
├── PluginError             a plugin cannot be loaded, or breaks the contract
├── DataUnavailable         the images are not there, or cannot be read
├── WeightsUnavailable      the feature extractor's weights are not there, or are not the right ones
├── RecordError             a record cannot be read or written
│   ├── RecordMissing       it is not there
│   └── RecordUnreadable    the file system does not give it
└── RunError                exit code 1: a run started and failed
    └── Diverged            a loss left the finite numbers
"""

from __future__ import annotations


class GanzooError(Exception):
    """Base of every error that ganzoo raises on purpose. `exit_code` is what the command line exits with."""

    exit_code = 2


class UsageError(GanzooError):
    """The request is wrong: a name, a number or a combination that cannot be run."""


class UnknownName(UsageError):
    """A name that no plugin offers. The message carries the nearest names."""


class AmbiguousName(UsageError):
    """A name that more than one plugin offers. The message lists the `plugin:name` forms."""


class PluginError(GanzooError):
    """A plugin cannot be loaded, or what it yields breaks the contract."""


class DataUnavailable(GanzooError):
    """A dataset is absent, incomplete or unreadable. The message says which files to put where."""


class WeightsUnavailable(GanzooError):
    """A feature extractor's weights are absent or do not have the expected sha256."""


class RecordError(GanzooError):
    """A record, or the folder that holds it, cannot be read or written."""


class RecordMissing(RecordError):
    """There is no record, or no checkpoint, where one is looked for."""


class RecordUnreadable(RecordError):
    """The file system does not give a record or a checkpoint. Its content may be good, and must not be replaced."""


class RunError(GanzooError):
    """A run started and failed."""

    exit_code = 1


class Diverged(RunError):
    """A term of a loss became NaN or infinite."""
