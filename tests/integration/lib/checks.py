"""Questions that several tests ask: does the archive say what the database says?"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Sequence

from lib.cluster import Cluster
from lib.rows import SHARED, Rows, Table, assert_same_rows, read_all
from lib.school import School
from lib.sidecar import Sidecar
from lib.targets import Target

EXPORTS_AT_ONCE = 2


def export_all(sidecar: Sidecar, tables: Sequence[Table], tenants: Sequence[str],
               target: Target | None = None, only: Sequence[str] = ()) -> dict[str, Rows]:
    """The archive's answer at a target (now, without one) for every tenant; `only` some of their tables."""
    with tempfile.TemporaryDirectory(dir=sidecar.logfile.parent) as scratch:
        def export(numbered: tuple[int, str]) -> Rows:
            number, tenant = numbered
            return sidecar.export(tenant, tables, Path(scratch) / str(number), target, only)

        with ThreadPoolExecutor(EXPORTS_AT_ONCE) as pool:
            return dict(zip(tenants, pool.map(export, enumerate(tenants)), strict=True))


def live_rows(cluster: Cluster, database: str, school: School) -> dict[str, Rows]:
    with cluster.session(database) as cur:
        return read_all(cur, school.tables, [*school.tenants, SHARED])


def assert_archive_equals_live(sidecar: Sidecar, school: School) -> None:
    """Every tenant, every table, every row. Nobody may be writing."""
    live = live_rows(sidecar.cluster, sidecar.database, school)
    archived = export_all(sidecar, school.tables, list(live))
    for tenant, rows in live.items():
        assert_same_rows(rows, archived[tenant], f"{tenant}, archive against the live database")


def physical_rows(cluster: Cluster, database: str, school: School, tenants: Sequence[str]) -> list[tuple[Any, ...]]:
    """Where these tenants' rows lie and who wrote them: any touch of a row changes its ctid or xmin."""
    with cluster.session(database) as cur:
        found: list[tuple[Any, ...]] = []
        for table in school.tables:
            if table.tenant_column is None:
                continue
            cur.execute(f'SELECT %s, ctid::text, xmin::text, xmax::text FROM "{table.schema}"."{table.name}"'
                        f' WHERE "{table.tenant_column}"::text = ANY (%s)', (table.full_name, list(tenants)))
            found += cur.fetchall()
    return sorted(found)


def rows_written_by(cluster: Cluster, database: str, school: School, xid: int) -> dict[str, int]:
    """tenant -> how many of its live rows this transaction wrote."""
    with cluster.session(database) as cur:
        counts: dict[str, int] = {}
        for table in school.tables:
            tenant = f'"{table.tenant_column}"::text' if table.tenant_column else f"'{SHARED}'"
            cur.execute(f'SELECT {tenant}, count(*) FROM "{table.schema}"."{table.name}"'
                        " WHERE xmin::text = %s GROUP BY 1", (str(xid % 2**32),))
            for name, count in cur.fetchall():
                counts[name] = counts.get(name, 0) + count
    return counts
