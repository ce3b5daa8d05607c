"""Waiting for a condition, never for time to pass."""

import os
import time
from typing import Callable, TypeVar

Answer = TypeVar("Answer")

# Sanitizer builds and loaded machines are slower, not wrong: every deadline is stretched by this.
PATIENCE = float(os.environ.get("PGSTRATA_TEST_PATIENCE", "1"))
POLL_S = 0.02


def wait_for(
    what: str,
    condition: Callable[[], Answer | None],
    seconds: float = 30.0,
    describe: Callable[[], object] = lambda: "",
    poll_s: float = POLL_S,
) -> Answer:
    """Polls until `condition()` is true and returns what it said.

    `describe` is asked once, at the end of patience, for what to show in the failure.
    """
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds * PATIENCE:.0f} s in vain for {what}\n{describe()}")
        time.sleep(poll_s)
