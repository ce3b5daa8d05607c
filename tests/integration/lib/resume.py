"""A long run that goes on where it was stopped: `pytest --resume FILE`.

FILE remembers the tests that passed with this binary and these tests; they are left out the next time. Another
binary, or a test file that has changed, begins anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lib.sidecar import binary


def _digest_of(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Resume:
    """Registered as a plugin when --resume is given."""

    def __init__(self, file: Path) -> None:
        tests = Path(__file__).parents[1]
        self._called = False
        self._file = file
        self._key = _digest_of([binary(), *sorted(tests.rglob("*.py"))])
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self._passed = set(lines[1:]) if lines[:1] == [self._key] else set()
        if not self._passed:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._key + "\n", encoding="utf-8")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        done = [item for item in items if item.nodeid in self._passed]
        if done:
            config.hook.pytest_deselected(items=done)
            items[:] = [item for item in items if item.nodeid not in self._passed]

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._passed:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test counts once its fixtures have ended well too: its teardown is the last report."""
        if report.when == "call":
            self._called = report.passed
        if report.when == "teardown" and report.passed and self._called:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(report.nodeid + "\n")
        if report.when == "setup":
            self._called = False
