"""A developer at work while the application writes: random changes of tables, columns and types.

    with Reforms(cluster, database, tenants, seed=7) as reforms:
        reforms.wait(40)
    reforms.boundaries      # an LSN after each change that was committed
"""

from __future__ import annotations

import random
import threading
from typing import Callable, Sequence

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from lib.cluster import Cluster, lsn_number
from lib.wait import wait_for

Cursor = psycopg2.extensions.cursor

SCHEMA = "CREATE SCHEMA IF NOT EXISTS outro"
REFORMED = ("alunos", "produtos", "matriculas", "escolas")
# What a column may become, one after the other.
TYPES = ("smallint", "integer", "bigint", "numeric(20,2)", "numeric(24,2)", "text")

# The application was there first, or somebody else was: come back later.
SETBACKS = (psycopg2.errors.DeadlockDetected, psycopg2.errors.LockNotAvailable, psycopg2.errors.UniqueViolation)


class Reforms:
    """One session. Leaving the `with` block stops it and raises what it failed with."""

    def __init__(self, cluster: Cluster, database: str, tenants: Sequence[str], seed: int) -> None:
        self._cluster, self._database, self._tenants = cluster, database, list(tenants)
        self._rng = random.Random(f"{seed}/reforms")
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work)
        self._number = 0
        # What stands: committed steps change these, and are undone with their transaction.
        self._columns: dict[tuple[str, str], int] = {}  # (table, column) -> index into TYPES; -1: an enum
        self._enums: dict[str, str] = {}  # type -> its first label
        self._tables: list[str] = []
        self.boundaries: list[int] = []

    def __enter__(self) -> Reforms:
        self._cluster.execute(SCHEMA, database=self._database)
        self._thread.start()
        return self

    def __exit__(self, kind, value, trace) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and self._failure is not None:
            raise self._failure

    def wait(self, count: int, seconds: float = 120) -> None:
        def reached() -> bool:
            if self._failure is not None:
                raise self._failure
            return len(self.boundaries) >= count

        wait_for(f"{count} reforms", reached, seconds, lambda: f"{len(self.boundaries)} so far")

    def _work(self) -> None:
        try:
            conn = self._cluster.connect(self._database)
            with conn.cursor() as cur:
                cur.execute("SET lock_timeout = '500ms'")
                while not self._stop.is_set():
                    self._transaction(cur)
            conn.close()
        except BaseException as failure:  # shown by the main thread
            self._failure = failure

    def _transaction(self, cur: Cursor) -> None:
        before = dict(self._columns), dict(self._enums), list(self._tables)
        steps = [self._rng.choice(self._steps()) for _ in range(self._rng.choice((1, 1, 1, 2, 3)))]
        end = self._rng.choice(("COMMIT",) * 5 + ("ROLLBACK",))
        cur.execute("BEGIN")
        try:
            for step in steps:
                step(cur)
        except SETBACKS:
            end = "ROLLBACK"
        cur.execute(end)
        if end == "ROLLBACK":
            self._columns, self._enums, self._tables = before
            return
        cur.execute("SELECT pg_current_wal_insert_lsn()::text")
        self.boundaries.append(lsn_number(cur.fetchone()[0]))

    def _steps(self) -> list[Callable[[Cursor], None]]:
        return [self._add, self._add, self._drop, self._rename, self._retype, self._fill, self._fill, self._enum,
                self._relabel, self._create, self._write, self._write, self._rename_table, self._move_table,
                self._rekey, self._drop_table]

    def _name(self, what: str) -> str:
        self._number += 1
        return f"{what}_{self._number}"

    def _some_column(self, enum: bool | None = None) -> tuple[str, str] | None:
        some = [key for key, kind in self._columns.items() if enum is None or enum == (kind < 0)]
        return self._rng.choice(some) if some else None

    # ---- columns of the application's tables ----

    def _add(self, cur: Cursor) -> None:
        table, column = self._rng.choice(REFORMED), self._name("x")
        default = self._rng.choice(("", " DEFAULT 7", " DEFAULT (random() * 1000)::int", " NOT NULL DEFAULT -1"))
        cur.execute(f"ALTER TABLE {table} ADD {column} smallint{default}")
        self._columns[table, column] = 0

    def _drop(self, cur: Cursor) -> None:
        key = self._some_column()
        if key is not None:
            cur.execute(f"ALTER TABLE {key[0]} DROP {key[1]}")
            del self._columns[key]

    def _rename(self, cur: Cursor) -> None:
        key = self._some_column()
        if key is not None:
            name = self._name("x")
            cur.execute(f"ALTER TABLE {key[0]} RENAME {key[1]} TO {name}")
            self._columns[key[0], name] = self._columns.pop(key)

    def _retype(self, cur: Cursor) -> None:
        key = self._some_column(enum=False)
        if key is not None and self._columns[key] + 1 < len(TYPES):
            self._columns[key] += 1
            cur.execute(f"ALTER TABLE {key[0]} ALTER {key[1]} TYPE {TYPES[self._columns[key]]}")

    def _fill(self, cur: Cursor) -> None:
        key = self._some_column(enum=False)
        if key is not None:
            cur.execute(f"UPDATE {key[0]} SET {key[1]} = %s WHERE tenant_id = %s",
                        (str(self._rng.randrange(9000)), self._rng.choice(self._tenants)))

    def _enum(self, cur: Cursor) -> None:
        table, column, kind = self._rng.choice(REFORMED), self._name("x"), self._name("tipo")
        cur.execute(f"CREATE TYPE {kind} AS ENUM ('um', 'dois'); ALTER TABLE {table} ADD {column} {kind} DEFAULT 'um'")
        self._columns[table, column] = -1
        self._enums[kind] = "um"

    def _relabel(self, cur: Cursor) -> None:
        if self._enums:
            kind = self._rng.choice(list(self._enums))
            label = self._name("um")
            cur.execute(f"ALTER TYPE {kind} RENAME VALUE '{self._enums[kind]}' TO '{label}'")
            self._enums[kind] = label

    # ---- tables of their own ----

    def _create(self, cur: Cursor) -> None:
        table = self._name("nova")
        cur.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, tenant_id text NOT NULL, v int)")
        self._tables.append(table)
        self._write(cur)

    def _write(self, cur: Cursor) -> None:
        if self._tables:
            table = self._rng.choice(self._tables)
            cur.execute(f"INSERT INTO {table} SELECT i, %s, i FROM generate_series(%s, %s) i ON CONFLICT DO NOTHING",
                        (self._rng.choice(self._tenants), self._number, self._number + self._rng.randrange(5)))
            cur.execute(f"UPDATE {table} SET v = v + 1 WHERE tenant_id = %s", (self._rng.choice(self._tenants),))
            cur.execute(f"DELETE FROM {table} WHERE id %% 7 = %s", (self._rng.randrange(7),))

    def _rename_table(self, cur: Cursor) -> None:
        if self._tables:
            number = self._rng.randrange(len(self._tables))
            old, name = self._tables[number], self._name("nova")
            cur.execute(f"ALTER TABLE {old} RENAME TO {name}")
            self._tables[number] = ("outro." if old.startswith("outro.") else "") + name

    def _move_table(self, cur: Cursor) -> None:
        if self._tables:
            number = self._rng.randrange(len(self._tables))
            old = self._tables[number]
            there = old.startswith("outro.")
            cur.execute(f"ALTER TABLE {old} SET SCHEMA {'public' if there else 'outro'}")
            self._tables[number] = old.removeprefix("outro.") if there else f"outro.{old}"

    def _rekey(self, cur: Cursor) -> None:
        if self._tables:
            table = self._rng.choice(self._tables)
            cur.execute("SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'", (table,))
            key = self._rng.choice(("id", "tenant_id, id"))
            cur.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{cur.fetchone()[0]}", ADD PRIMARY KEY ({key})')

    def _drop_table(self, cur: Cursor) -> None:
        if len(self._tables) > 2:
            cur.execute(f"DROP TABLE {self._tables.pop(self._rng.randrange(len(self._tables)))}")
