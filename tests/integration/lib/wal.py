"""The commits and aborts of a run, read from its WAL by pg_waldump: an authority that owes pgstrata nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

from lib.cluster import Cluster, lsn_number, lsn_text, run_as_server

# As in "rmgr: Heap len (rec/tot): 54/ 54, tx: 727, lsn: 0/00621528, prev 0/00621430, desc: ..."
RECORD = re.compile(r"^rmgr: \w+ .*?tx: +(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), prev \S+, desc: (.*)$")
# The transaction of a two-phase ending stands in the description, and the record's own is 0.
ENDING = re.compile(r"^(COMMIT|ABORT)(?:_PREPARED (\d+):)? (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}) UTC")


@dataclass(frozen=True)
class Ending:
    """A commit or abort record."""

    commit: bool
    lsn: int  # where the record starts
    next_lsn: int  # where the record after it starts: the first boundary at or behind this record's end
    xid: int
    time: datetime

    def __str__(self) -> str:
        return f"{'commit' if self.commit else 'abort'} of {self.xid} at {lsn_text(self.lsn)}, {self.time}"


def endings(cluster: Cluster, begin_lsn: str, end_lsn: str) -> list[Ending]:
    """All commits and aborts, of every database, in [begin, end), in LSN order. The WAL must be archived."""
    text = run_as_server([
        "env", "TZ=UTC", cluster.bindir / "pg_waldump", "-p", cluster.archive, "-s", begin_lsn, "-e", end_lsn,
    ])
    found: list[Ending] = []
    waiting: tuple[bool, int, int, datetime] | None = None  # an ending whose next record is still to come
    for line in text.splitlines():
        record = RECORD.match(line)
        if record is None:
            continue
        lsn = lsn_number(record[2])
        if waiting is not None:
            commit, start, xid, when = waiting
            found.append(Ending(commit, start, lsn, xid, when))
            waiting = None
        ending = ENDING.match(record[3])
        if ending is not None:
            when = datetime.fromisoformat(ending[3]).replace(tzinfo=timezone.utc)
            waiting = (ending[1] == "COMMIT", lsn, int(ending[2] or record[1]), when)
    return found
