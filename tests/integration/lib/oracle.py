"""The oracle: PostgreSQL's own point-in-time recovery of the same run.

`Oracle.take` makes a physical copy before the run. Afterwards `visit` recovers that one copy from
target to target: recovery pauses at a target as a hot standby, its rows are read, it is stopped, the next
(later) target is set, and it goes on. One copy serves all targets, at the price of their order.

Where the paused copy is within a transaction that holds a table for itself alone (TRUNCATE), no one can
read that table. A clone of the copy is then promoted at the same target, which ends that transaction;
prepared ones, which outlive a promotion, are rolled back: at the target they had not committed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence

from lib.cluster import Cluster, run_as_server
from lib.rows import Rows, Table, read_all
from lib.targets import Target, in_order
from lib.wait import wait_for

KEPT_BETWEEN_TARGETS = ("recovery_target_action", "recovery_target_timeline")


class Oracle:
    def __init__(self, primary: Cluster, copy: Cluster) -> None:
        self._primary = primary
        self._copy = copy

    @classmethod
    def take(cls, primary: Cluster, folder: Path) -> Oracle:
        """Copies the running primary, which must archive its WAL."""
        copy = Cluster(folder)
        run_as_server([
            primary.bindir / "pg_basebackup", "-d", primary.dsn(), "-D", copy.data, "-X", "stream", "-c", "fast",
            "--no-sync", "--no-manifest",
        ])
        copy.settings = {
            **primary.settings,
            "archive_mode": "off",
            "hot_standby": "on",
            "restore_command": f"cp {primary.archive}/%f %p",
            "recovery_target_action": "pause",
            "recovery_target_timeline": "current",
        }
        (copy.data / "recovery.signal").touch()
        return cls(primary, copy)

    def visit(self, targets: Iterable[Target], look: Callable[[Target, Cluster], None]) -> None:
        """Recovers to each target, earliest first, and lets `look` read the paused copy.

        All WAL up to the last target must be archived: see Cluster.switch_wal."""
        for target in in_order(targets):
            self._copy.stop("immediate")  # a paused recovery looks for other kinds of stop once a second
            self._recover(self._copy, target)
            if self._is_held_exclusively():
                with self._promoted_clone(target) as clone:
                    look(target, clone)
            else:
                look(target, self._copy)

    def rows(self, database: str, tables: Sequence[Table], tenants: Sequence[str], target: Target) -> dict[str, Rows]:
        """What every tenant's rows were at one target (later than any visited before)."""
        answer: dict[str, Rows] = {}

        def look(_target: Target, copy: Cluster) -> None:
            with copy.session(database) as cur:
                answer.update(read_all(cur, tables, tenants))

        self.visit([target], look)
        return answer

    def remove(self) -> None:
        self._copy.remove()

    def _recover(self, copy: Cluster, target: Target) -> None:
        copy.settings = {
            name: value for name, value in copy.settings.items()
            if not name.startswith("recovery_target_") or name in KEPT_BETWEEN_TARGETS
        } | dict(target.recovery)
        copy.start()
        wait_for(f"recovery to {target}", lambda: self._is_there(copy), 60, copy.log_tail)

    @staticmethod
    def _is_there(copy: Cluster) -> bool:
        """Paused at the target, or promoted there, when asking about a pause would be an error."""
        return copy.query_value(
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() = 'paused' ELSE true END")

    def _is_held_exclusively(self) -> bool:
        return self._copy.query_value("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
                                      " AND locktype = 'relation'") > 0

    @contextlib.contextmanager
    def _promoted_clone(self, target: Target) -> Iterator[Cluster]:
        self._copy.stop("immediate")
        clone = Cluster(self._copy.folder.with_name(self._copy.folder.name + "-clone"))
        try:
            run_as_server(["cp", "-a", "--reflink=auto", self._copy.data, clone.data])
            clone.settings = {**self._copy.settings, "recovery_target_action": "promote"}
            self._recover(clone, target)
            for gid, database in clone.query("SELECT gid, database FROM pg_prepared_xacts"):
                clone.execute("ROLLBACK PREPARED %s", (gid,), database)
            yield clone
        finally:
            clone.remove()
