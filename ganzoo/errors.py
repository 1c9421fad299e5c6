"""The exceptions of ganzoo. Every message is one line that says what is wrong, then the fix.

GanzooError                 exit code 2: nothing was trained
├── UsageError              the request itself is wrong: a name, a number, a combination
│   ├── UnknownName         a variant, dataset, metric … that no plugin offers
│   └── AmbiguousName       a name that several plugins offer
├── PluginError             a plugin cannot be loaded, or breaks the contract
├── DataUnavailable         the images are absent or cannot be read
├── WeightsUnavailable      the feature extractor's weights are absent or have another sha256
├── RecordError             a record cannot be read or written
│   ├── RecordMissing       it does not exist
│   ├── RecordRefused       its content is none of a record
│   └── RecordUnreadable    the file system fails to read it
└── RunError                exit code 1: a run started and failed
    ├── Diverged            a term of the loss became NaN or infinite
    └── Disturbed           other processes disturbed the measurement more than was allowed
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
    """A record or checkpoint does not exist."""


class RecordRefused(RecordError):
    """The content of a record is damaged, or none that ganzoo writes."""


class RecordUnreadable(RecordError):
    """The file system fails to read a record or checkpoint. Its content may be good and must not be replaced."""


class RunError(GanzooError):
    """A run started and failed."""

    exit_code = 1


class Diverged(RunError):
    """A term of a loss became NaN or infinite."""


class Disturbed(RunError):
    """Other processes disturbed the measurement of a run's speed more than was allowed."""
