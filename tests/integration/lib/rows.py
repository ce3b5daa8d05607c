"""A tenant's rows as text: read from PostgreSQL, compared value by value.

A row is a dict from column to PostgreSQL's output text, or None for NULL: what `pgstrata export
--format jsonl` writes. Generated columns are left out, since they are computed and not stored history.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from typing import Iterable, Mapping, Sequence

import psycopg2.extensions
from psycopg2 import sql

Row = dict[str, str | None]
Rows = dict[str, list[Row]]  # "schema.table" -> rows, in no particular order

# The settings that decide how values look; pgstrata pins the same ones.
PINNED = (
    "client_encoding = 'UTF8'",
    "\"DateStyle\" = 'ISO, MDY'",
    "\"IntervalStyle\" = 'postgres'",
    "\"TimeZone\" = 'UTC'",
    "extra_float_digits = 1",
    "bytea_output = 'hex'",
)

SHARED = "_shared"
DIFFERENCES_SHOWN = 5
VALUE_CHARS_SHOWN = 60


@dataclass(frozen=True)
class Table:
    """A table as the tests know it."""

    schema: str
    name: str
    columns: tuple[str, ...]  # stored ones, in order
    tenant_column: str | None  # None: shared, unless `owner` says otherwise
    owner: str | None = None  # the tenant whose schema it is in: all its rows are that tenant's

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def concerns(self, tenant: str) -> bool:
        """Whether the tenant (or `_shared`) can have rows in it."""
        if self.owner is not None:
            return tenant == self.owner
        return (self.tenant_column is None) == (tenant == SHARED)


def tables_of(cur: psycopg2.extensions.cursor, tenant_column: str = "tenant_id",
              tenants: str = "tenants", tenant_schemas: str | None = None) -> list[Table]:
    """All ordinary tables and leaf partitions outside system schemas and pgstrata's own, with how their
    rows find their tenant. `tenant_schemas` is the prefix of schemas that are a tenant's each."""
    cur.execute(
        """
        SELECT n.nspname, c.relname,
               array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '')
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgstrata')
          AND c.relname !~ '^tenant_backup'
        GROUP BY 1, 2 ORDER BY 1, 2
        """)
    answer = []
    for schema, name, columns in cur.fetchall():
        key = tenant_column if tenant_column in columns else "id" if name == tenants else None
        owner = schema.removeprefix(tenant_schemas) if tenant_schemas and schema.startswith(tenant_schemas) else None
        answer.append(Table(schema, name, tuple(columns), None if owner else key, owner))
    return answer


def pin(cur: psycopg2.extensions.cursor) -> None:
    for setting in PINNED:
        cur.execute(f"SET {setting}")


def read_tenant(cur: psycopg2.extensions.cursor, tables: Sequence[Table], tenant: str) -> Rows:
    """What the database holds for this tenant now; `_shared` asks for the tables without a tenant."""
    return read_all(cur, tables, [tenant])[tenant]


def read_all(cur: psycopg2.extensions.cursor, tables: Sequence[Table], tenants: Iterable[str]) -> dict[str, Rows]:
    """Every named tenant's rows of every table; one pass over each table.

    By COPY, because it prints values by their output functions, as logical decoding does: a cast to
    text would show a boolean as `true` and take the padding off char(n).
    """
    pin(cur)
    answer: dict[str, Rows] = {tenant: {} for tenant in tenants}
    for table in tables:
        for tenant, rows in answer.items():
            if table.concerns(tenant):
                rows[table.full_name] = []
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        out = StringIO()
        cur.copy_expert(
            sql.SQL("COPY (SELECT {} FROM ONLY {}) TO STDOUT").format(
                columns, sql.Identifier(table.schema, table.name)).as_string(cur), out)
        for line in out.getvalue().split("\n")[:-1]:
            row = dict(zip(table.columns, parse_copy_line(line), strict=True))
            tenant = table.owner or (SHARED if table.tenant_column is None else row[table.tenant_column])
            if tenant in answer:
                answer[tenant][table.full_name].append(row)
    return answer


COPY_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def parse_copy_line(line: str) -> list[str | None]:
    """The fields of one line of COPY's text format."""
    return [
        None if field == "\\N"
        else field if "\\" not in field
        else re.sub(r"\\(.)", lambda match: COPY_ESCAPES.get(match[1], match[1]), field)
        for field in line.split("\t")
    ]


# ---- comparison ----

def differences(expected: Rows, actual: Rows) -> list[str]:
    """What differs, in words, table by table; empty when the two are equal as multisets of rows.

    A table that one side does not mention counts as empty there.
    """
    found = []
    for table in sorted(expected.keys() | actual.keys()):
        want = Counter(_frozen(row) for row in expected.get(table, ()))
        have = Counter(_frozen(row) for row in actual.get(table, ()))
        if want == have:
            continue
        missing, surplus = list((want - have).elements()), list((have - want).elements())
        found.append(f"{table}: {want.total()} rows expected, {have.total()} there;"
                     f" {len(missing)} missing, {len(surplus)} surplus")
        found += [f"    missing {_shown(row)}" for row in sorted(missing, key=repr)[:DIFFERENCES_SHOWN]]
        found += [f"    surplus {_shown(row)}" for row in sorted(surplus, key=repr)[:DIFFERENCES_SHOWN]]
    return found


def assert_same_rows(expected: Rows, actual: Rows, what: str) -> None:
    found = differences(expected, actual)
    assert not found, f"{what}:\n" + "\n".join(found)


def row_count(rows: Mapping[str, Sequence[Row]]) -> int:
    return sum(map(len, rows.values()))


def _frozen(row: Row) -> tuple[tuple[str, str | None], ...]:
    return tuple(sorted(row.items()))


def _shown(row: tuple[tuple[str, str | None], ...]) -> str:
    def shown(value: str | None) -> str:
        if value is None:
            return "NULL"
        if len(value) > VALUE_CHARS_SHOWN:
            return f"{value[:VALUE_CHARS_SHOWN]!r}... ({len(value)} characters, hash {hash(value) & 0xFFFF:04x})"
        return repr(value)

    return ", ".join(f"{column}={shown(value)}" for column, value in row)
