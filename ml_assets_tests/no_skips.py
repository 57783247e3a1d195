"""A pytest plugin: with CI=true a test that would be skipped fails, so that nothing goes untested in silence.

`make test` loads it with `-p ml_assets_tests.no_skips`. Expected failures stay what they are.
"""

import os

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    return report if hasattr(report, "wasxfail") else _refused(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _refused((yield))


def _refused(report):
    if report.skipped and os.environ.get("CI") == "true":
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"In CI nothing is skipped, and this was: {reason}"
    return report
