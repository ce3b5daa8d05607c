"""A story told to the archive in steps, by one writer: what the live database held after each step is
what the archive must answer for that moment, and what a restore must bring back.

With a single writer the live rows are as good an oracle as PostgreSQL's recovery, and much quicker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import psycopg2.extensions

from lib.checks import export_all
from lib.cluster import Cluster, lsn_number
from lib.rows import SHARED, Rows, Table, assert_same_rows, read_all, tables_of
from lib.sidecar import Sidecar
from lib.targets import Target, at_lsn

TENANTS = ("a", "b")

# The least that makes a database one of many tenants.
SCHEMA = "CREATE TABLE tenants (id text PRIMARY KEY, nome text); INSERT INTO tenants VALUES ('a', 'A'), ('b', 'B')"


@dataclass(frozen=True)
class Moment:
    label: str
    target: Target
    tables: Sequence[Table]
    rows: Mapping[str, Rows]  # by tenant


class Story:
    def __init__(self, cluster: Cluster, database: str, sidecar: Sidecar, tenant_schemas: str | None = None) -> None:
        self._tenant_schemas = tenant_schemas
        self._cluster, self._database, self.sidecar = cluster, database, sidecar
        self._moments: dict[str, Moment] = {}

    def execute(self, sql: str) -> None:
        self._cluster.execute(sql, database=self._database)

    def begin(self, schema: str) -> None:
        """Schema and rows that are there before pgstrata comes, then setup, serve and the first bases."""
        self.execute(SCHEMA)
        self.execute(schema)
        self.sidecar.start()
        self.remember("beginning")

    def then(self, label: str, *transactions: str) -> None:
        """Each text is one transaction. The state after the last one becomes the moment `label`."""
        for text in transactions:
            self.execute(text)
        self.remember(label)

    def base(self) -> None:
        """A base between two moments."""
        self.sidecar.ok("base")

    def remember(self, label: str) -> None:
        assert label not in self._moments, label
        with self._cluster.session(self._database) as cur:
            tables = tables_of(cur, tenant_schemas=self._tenant_schemas)
            rows = read_all(cur, tables, [*self._tenants(cur), SHARED])
            cur.execute("SELECT pg_current_wal_insert_lsn()::text")
            target = at_lsn(lsn_number(cur.fetchone()[0]))
        self._moments[label] = Moment(label, target, tables, rows)

    def moment(self, label: str) -> Moment:
        return self._moments[label]

    @staticmethod
    def _tenants(cur: psycopg2.extensions.cursor) -> list[str]:
        cur.execute("SELECT id FROM tenants")
        return sorted({*TENANTS, *(row[0] for row in cur.fetchall())})

    def check(self, *labels: str) -> None:
        """The archive's answer for these moments (all, when none is named), every tenant."""
        self.sidecar.flush()
        for label in labels or self._moments:
            moment = self._moments[label]
            answers = export_all(self.sidecar, moment.tables, list(moment.rows), moment.target)
            for tenant, rows in moment.rows.items():
                assert_same_rows(rows, answers[tenant], f"tenant {tenant}, {label}")

    def back_to(self, label: str, tenant: str = TENANTS[0]) -> None:
        """Puts the tenant back, others stay; then undoes it, and everything is as it was."""
        moment = self._moments[label]
        self.remember(f"before going back to {label} {len(self._moments)}")
        before = next(reversed(self._moments.values()))
        answer = self.sidecar.pitr(tenant, *moment.target.pitr_words())
        self._assert_live({**before.rows, tenant: moment.rows[tenant]}, before, f"{tenant} back to {label}")
        if answer["status"] == "completed":
            assert answer["innocence"] == {"other_tenants_versions": 0}, answer
            self.sidecar.pitr(tenant, "--target-name", answer["restore_point"])
        self._assert_live(before.rows, before, f"undone: {tenant} back to {label}")

    def back_to_each(self, tenant: str = TENANTS[0]) -> None:
        for label in reversed(list(self._moments)):
            self.back_to(label, tenant)

    def _assert_live(self, expected: Mapping[str, Rows], moment: Moment, what: str) -> None:
        with self._cluster.session(self._database) as cur:
            live = read_all(cur, moment.tables, list(expected))
        for tenant, rows in expected.items():
            assert_same_rows(rows, live[tenant], f"{what}: live rows of {tenant}")
