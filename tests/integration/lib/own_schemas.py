"""A school whose tenants have, beside their rows in the common tables, a schema of their own each: the same two
tables in every one, and nothing in a row that names the tenant."""

from __future__ import annotations

import random

import psycopg2.extensions
from psycopg2 import sql

from lib.rows import tables_of
from lib.school import School
from lib.workload import Cursor, Operation, large_text

PREFIX = "loja_"
SETTINGS = {"PGSTRATA_TENANT_SCHEMAS": PREFIX + "*"}

TABLES = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.pedidos (
    id    integer PRIMARY KEY,
    valor numeric NOT NULL,
    moeda char(3) REFERENCES moedas,
    nota  text
);
ALTER TABLE {schema}.pedidos ALTER nota SET STORAGE EXTERNAL;
CREATE TABLE {schema}.itens (
    pedido    integer REFERENCES {schema}.pedidos ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    numero    integer,
    tenant_id text, -- means nothing here
    PRIMARY KEY (pedido, numero)
);
INSERT INTO {schema}.pedidos SELECT i, i * 1.10, 'BRL', repeat(md5(i::text), 100) FROM generate_series(1, 20) AS i;
INSERT INTO {schema}.itens SELECT 1 + i % 20, i, 'ninguém' FROM generate_series(1, 40) AS i;
"""


def add_schemas(conn: psycopg2.extensions.connection, school: School) -> School:
    """The same school, with a schema for each tenant."""
    with conn.cursor() as cur:
        for tenant in school.tenants:
            cur.execute(_in_schema(TABLES, tenant))
        return School(school.tenants, tables_of(cur, tenant_schemas=PREFIX))


def _in_schema(text: str, tenant: str) -> sql.Composed:
    return sql.SQL(text).format(schema=sql.Identifier(PREFIX + tenant))


def _change(cur: Cursor, tenant: str, text: str, values: tuple[object, ...] = ()) -> int:
    cur.execute(_in_schema(text, tenant), values)
    return cur.rowcount


def order(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """The items come first: their foreign key is checked at the end."""
    number = rng.randrange(1000, 10**9)
    items = _change(cur, tenant, "INSERT INTO {schema}.itens SELECT %s, i, %s FROM generate_series(1, %s) AS i",
                    (number, rng.choice((None, tenant, "outro")), rng.randint(1, 3)))
    return items + _change(cur, tenant, "INSERT INTO {schema}.pedidos VALUES (%s, %s, NULL, %s)",
                           (number, rng.randrange(1000) / 8, rng.choice((None, "", large_text(rng)))))


def correct(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """Large notes stay as they are and are left out of the stream."""
    return _change(cur, tenant, "UPDATE {schema}.pedidos SET valor = %s WHERE id IN"
                                " (SELECT id FROM {schema}.pedidos ORDER BY random() LIMIT %s)",
                   (rng.randrange(10**6) / 100, rng.randint(1, 4)))


def renumber_order(cur: Cursor, tenant: str, rng: random.Random) -> int:
    return _change(cur, tenant, "UPDATE {schema}.pedidos SET id = %s WHERE id ="
                                " (SELECT id FROM {schema}.pedidos ORDER BY random() LIMIT 1)", (rng.randrange(10**9),))


def cancel_order(cur: Cursor, tenant: str, rng: random.Random) -> int:
    return _change(cur, tenant, "DELETE FROM {schema}.pedidos WHERE id IN"
                                " (SELECT id FROM {schema}.pedidos ORDER BY random() LIMIT %s)", (rng.randint(1, 2),))


def clear_orders(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """Seldom: everybody waits for it. What the transaction left to check at its end is checked before."""
    if rng.random() < 0.8:
        return order(cur, tenant, rng)
    cur.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
    cur.execute(_in_schema("TRUNCATE {schema}.pedidos CASCADE", tenant))
    return order(cur, tenant, rng)


IN_OWN_SCHEMA: tuple[Operation, ...] = (order, order, correct, correct, renumber_order, cancel_order, clear_orders) * 3
