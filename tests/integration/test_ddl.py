"""What pgstrata's triggers do inside the user's own commands: they tell the archiver everything, decide as
the program decides, and never fail the user.

The stream is read with a slot of the test's own, so that what is seen is what the triggers wrote.
"""

from __future__ import annotations

import json
from typing import Any, Iterator

import psycopg2
import psycopg2.errors
import pytest

from lib.cluster import Cluster
from lib.sidecar import CONFLICT, DONE, REFUSED, Sidecar
from lib.wait import wait_for

SLOT = "ddl_test"

# One table for every way to find a tenant, and every reason to find none.
ZOO = """
CREATE TABLE tenants (id int PRIMARY KEY);
CREATE TABLE by_name (id int PRIMARY KEY, tenant_id text);
CREATE TABLE in_key (tenant_id int, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE by_fk (id int PRIMARY KEY, t int REFERENCES tenants);
CREATE TABLE two_fks (id int PRIMARY KEY, t int REFERENCES tenants, u int REFERENCES tenants);
CREATE TABLE through_two_fks (id int PRIMARY KEY, p int REFERENCES two_fks);
CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES by_fk);
CREATE TABLE grandchild (id int PRIMARY KEY, p int REFERENCES child);
CREATE TABLE reference (code text PRIMARY KEY);
CREATE TABLE refers_to_reference (id int PRIMARY KEY, r text REFERENCES reference, self int REFERENCES refers_to_reference);
CREATE TABLE no_key (x int, tenant_id int);
CREATE TABLE deferrable_key (id int PRIMARY KEY DEFERRABLE, tenant_id int);
CREATE TABLE including (id int, x int, tenant_id int, PRIMARY KEY (id) INCLUDE (x));
CREATE TABLE by_index (a int NOT NULL, tenant_id int NOT NULL); CREATE UNIQUE INDEX by_index_i ON by_index (tenant_id, a);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_i;
CREATE TABLE nothing (id int PRIMARY KEY, tenant_id int); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE whole (id int PRIMARY KEY, tenant_id int); ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE whole_no_key (id int, tenant_id int); ALTER TABLE whole_no_key REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, tenant_id int);
CREATE TABLE generated (id int PRIMARY KEY, x int, tenant_id int GENERATED ALWAYS AS (x) STORED);
CREATE TABLE generated_key (x int, id int GENERATED ALWAYS AS (x) STORED PRIMARY KEY);
CREATE TABLE parted (id int, tenant_id int, PRIMARY KEY (id, tenant_id)) PARTITION BY LIST (tenant_id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE heir () INHERITS (parent);
CREATE TABLE as_select AS SELECT 1 AS id, 2 AS tenant_id;
CREATE TABLE tenant_backups (id int PRIMARY KEY, tenant_id int);
CREATE SCHEMA app CREATE TABLE tenants (id int PRIMARY KEY) CREATE TABLE "Odd "".name" ("Ünï" int PRIMARY KEY, tenant_id int);
"""


@pytest.fixture
def watched(cluster: Cluster, database: str, sidecar: Sidecar) -> Iterator[Sidecar]:
    """pgstrata set up in an empty database, and a slot that sees what happens from now on."""
    sidecar.ok("setup")
    cluster.query("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (SLOT,), database)
    yield sidecar
    cluster.query("SELECT pg_drop_replication_slot(%s)", (SLOT,), database)


def taken(sidecar: Sidecar) -> list[bytes]:
    """What the stream has said since the last call."""
    return [bytes(row[0]) for row in sidecar.cluster.query(
        "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
        " 'publication_names', 'pgstrata', 'messages', 'true')", (SLOT,), sidecar.database)]


def messages(sidecar: Sidecar, prefix: str) -> list[dict[str, Any]]:
    found = []
    for data in taken(sidecar):
        name, _, rest = data[10:].partition(b"\0")
        if data[:1] == b"M" and name.decode() == prefix:
            assert rest[4:].isascii(), rest
            found.append(json.loads(rest[4:]))
    return found


def ddl(sidecar: Sidecar, sql: str) -> list[dict[str, Any]]:
    """Runs a command, and tells what was said of it."""
    taken(sidecar)
    sidecar.cluster.execute(sql, database=sidecar.database)
    return messages(sidecar, "pgstrata.ddl")


def oid(sidecar: Sidecar, table: str) -> int:
    return sidecar.cluster.query_value("SELECT %s::regclass::oid::bigint", (table,), sidecar.database)


def published(sidecar: Sidecar) -> set[str]:
    return {row[0] for row in sidecar.cluster.query(
        "SELECT tablename FROM pg_publication_tables WHERE pubname = 'pgstrata'", database=sidecar.database)}


def shapes(said: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {table["name"]: table for message in said for table in message["relations"]}


# ---- the same decisions in SQL and in the program ----

def test_triggers_decide_as_the_program_decides(cluster: Cluster, database: str, watched: Sidecar) -> None:
    cluster.execute(ZOO, database=database)
    in_sql = {name: (covered, published_now, column) for name, covered, published_now, column in cluster.query(
        "SELECT n.nspname || '.' || c.relname, pgstrata.is_covered(c.oid), EXISTS (SELECT FROM pg_publication_rel"
        " WHERE prrelid = c.oid), pgstrata.tenant_column(c.oid)::text FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname IN ('public', 'app')", database=database)}
    tables = {f"{t['schema']}.{t['table']}": t for t in watched.run("doctor").json["tables"]}
    assert len(in_sql) > 25
    for name, (covered, published_now, column) in in_sql.items():
        table = tables[name]
        assert covered == table["covered"], f"{name}: {table}"
        assert published_now == covered, name
        names_column = table["route_reason"].partition("column ")[2] or table["route_reason"].partition("key ")[2]
        if covered and table["route"] == "column" and names_column:
            assert column == names_column, f"{name}: {table}"
        assert (column is not None) == (table["route"] == "column" and "several" not in table["route_reason"]), name
    assert not [f for f in watched.run("doctor").json["findings"] if f["level"] == "error"], "nothing is left to mend"


def test_routes_of_the_configuration_count_in_the_command_that_creates(
        cluster: Cluster, database: str, watched: Sidecar, folder) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({"routes": {
        "public.sessions": {"route": "excluded"}, "public.invoices": {"route": "column", "column": "account"}}}))
    watched.run("setup", environment={"PGSTRATA_CONFIG": str(file)})
    cluster.execute("CREATE TABLE sessions (id int PRIMARY KEY, tenant_id int);"
                    " CREATE TABLE invoices (id int PRIMARY KEY, account int)", database=database)
    assert published(watched) == {"invoices"}
    assert cluster.query_value("SELECT pgstrata.tenant_column('invoices'::regclass)::text", database=database) == "account"


# ---- the user's commands go on ----

@pytest.mark.parametrize("loss", [
    "DROP INDEX t_i", "ALTER TABLE t REPLICA IDENTITY NOTHING", "ALTER TABLE t REPLICA IDENTITY DEFAULT",
    "ALTER TABLE t DROP COLUMN a", "DROP DOMAIN key_domain CASCADE", "ALTER TABLE t ALTER a DROP NOT NULL"])
def test_a_table_that_loses_its_identity_leaves_in_that_command(watched: Sidecar, loss: str) -> None:
    watched.cluster.execute(
        "CREATE DOMAIN key_domain AS int; CREATE TABLE t (a key_domain NOT NULL, tenant_id int NOT NULL, x int);"
        " CREATE UNIQUE INDEX t_i ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX t_i", database=watched.database)
    assert published(watched) == {"t"}
    try:
        said = ddl(watched, loss)
    except psycopg2.errors.InvalidTableDefinition:
        assert "NOT NULL" in loss  # PostgreSQL itself keeps the identity's columns
        return
    assert published(watched) == set()
    assert shapes(said)["t"]["published"] is False
    watched.cluster.execute("INSERT INTO t (tenant_id) VALUES (1); UPDATE t SET x = 1; DELETE FROM t"
                            if "DROP" in loss and "INDEX" not in loss else "UPDATE t SET x = 1; DELETE FROM t",
                            database=watched.database)


def test_a_table_joins_in_the_command_that_makes_it_coverable(watched: Sidecar) -> None:
    said = ddl(watched, "CREATE TABLE t (id int, tenant_id int)")
    assert (said[0]["tag"], published(watched)) == ("CREATE TABLE", set())
    said = ddl(watched, "ALTER TABLE t ADD PRIMARY KEY (id)")
    assert said[0]["tag"] == "ALTER TABLE" and shapes(said)["t"]["published"] and published(watched) == {"t"}


def test_another_transaction_that_holds_the_publication_delays_no_one(watched: Sidecar) -> None:
    """Two migrations at once: the second goes on, and its table joins later."""
    first = watched.cluster.connect(watched.database, autocommit=False)
    with first.cursor() as cur:
        cur.execute("CREATE TABLE one (id int PRIMARY KEY)")
        watched.cluster.execute("SET statement_timeout = '5s'; CREATE TABLE two (id int PRIMARY KEY)",
                                database=watched.database)
    first.commit()
    first.close()
    assert published(watched) >= {"one"}
    watched.run("doctor", "--fix")
    assert published(watched) == {"one", "two"}


def test_a_role_without_rights_creates_tables_as_before(cluster: Cluster, database: str, watched: Sidecar) -> None:
    role = f"plain_{database}"
    cluster.execute(f"CREATE ROLE {role} LOGIN")
    cluster.execute(f"GRANT CREATE ON SCHEMA public TO {role}", database=database)
    with cluster.session(database, user=role) as cur:
        cur.execute("CREATE TABLE t (id int PRIMARY KEY, tenant_id int); INSERT INTO t VALUES (1, 1);"
                    " UPDATE t SET tenant_id = 2; SELECT pgstrata.set_actor('ana')")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cur.execute("SELECT pgstrata.follow('t'::regclass)")
    assert published(watched) == {"t"}


def test_temporary_tables_cannot_stand_in_for_the_catalog(cluster: Cluster, database: str, watched: Sidecar) -> None:
    """A trigger that runs with its owner's rights must not read what anybody can put in front of pg_class."""
    role = f"attacker_{database}"
    cluster.execute(f"CREATE ROLE {role} LOGIN")
    cluster.execute(f"GRANT CREATE ON SCHEMA public TO {role}", database=database)
    with cluster.session(database, user=role) as cur:
        cur.execute("CREATE FUNCTION pg_temp.evil() RETURNS oid LANGUAGE plpgsql AS"
                    " $$ BEGIN EXECUTE 'ALTER ROLE %s SUPERUSER'; RETURN 1; END $$" % role)
        for catalog in ("pg_class", "pg_attribute", "pg_index", "pg_namespace", "pg_trigger", "pg_publication"):
            cur.execute(f"CREATE TEMP VIEW {catalog} AS SELECT pg_temp.evil() AS oid")
        cur.execute("CREATE TABLE public.t (id int PRIMARY KEY, tenant_id int); INSERT INTO public.t VALUES (1, 1);"
                    " UPDATE public.t SET tenant_id = 2; DROP TABLE public.t")
    assert cluster.query_value("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (role,)) is False


# ---- what is told ----

def test_an_enum_rename_changes_rows_and_a_new_label_does_not(watched: Sidecar) -> None:
    watched.cluster.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN moods AS mood[];"
                            " CREATE TABLE t (id int PRIMARY KEY, m mood); CREATE TABLE u (id int PRIMARY KEY, m moods)",
                            database=watched.database)
    assert [m["changed"] for m in ddl(watched, "ALTER TYPE mood ADD VALUE 'glad' BEFORE 'ok'")] == [[]]
    said = ddl(watched, "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    assert sorted(said[0]["changed"]) == sorted([oid(watched, "t"), oid(watched, "u")])


def test_a_rewrite_by_using_changes_rows_and_a_default_does_not(watched: Sidecar) -> None:
    watched.cluster.execute("CREATE TABLE t (id int PRIMARY KEY, x int)", database=watched.database)
    said = ddl(watched, "ALTER TABLE t ALTER x TYPE int USING x + 1")
    assert [oid(watched, "t")] in [m["changed"] for m in said]
    said = ddl(watched, "ALTER TABLE t ADD y uuid DEFAULT gen_random_uuid()")
    assert all(m["changed"] == [] for m in said)
    assert [c["name"] for c in shapes(said)["t"]["columns"]] == ["id", "x", "y"]


def test_partitions_and_schemas_are_followed(watched: Sidecar) -> None:
    watched.cluster.execute(
        "CREATE TABLE p (id int, tenant_id int, PRIMARY KEY (id, tenant_id)) PARTITION BY LIST (tenant_id);"
        " CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)",
        database=watched.database)
    said = ddl(watched, "ALTER TABLE p ADD z int")
    assert [c["name"] for c in shapes(said)["p1"]["columns"]] == ["id", "tenant_id", "z"]
    assert shapes(ddl(watched, "ALTER SCHEMA s RENAME TO s2"))["t"]["schema"] == "s2"


def test_drops_are_told_by_oid(watched: Sidecar) -> None:
    watched.cluster.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY,"
                            " t int REFERENCES t)", database=watched.database)
    number = oid(watched, "t")
    said = ddl(watched, "DROP TABLE t CASCADE")
    assert [m["dropped"] for m in said if m["dropped"]] == [[number]]
    assert "u" in shapes(said), "its foreign key went with the table"


def test_who_is_taken_out_of_the_publication_by_hand_is_told(watched: Sidecar) -> None:
    watched.cluster.execute("CREATE TABLE t (id int PRIMARY KEY)", database=watched.database)
    said = ddl(watched, "ALTER PUBLICATION pgstrata DROP TABLE t")
    assert [m["changed"] for m in said] == [[oid(watched, "t")]]


def test_commands_that_are_no_business_of_ours_are_silent(watched: Sidecar) -> None:
    assert ddl(watched, "CREATE TEMP TABLE t (id int PRIMARY KEY); ALTER TABLE t ADD x int; DROP TABLE t;"
                        " CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION f();"
                        " CREATE VIEW v AS SELECT 1; DROP VIEW v; COMMENT ON SCHEMA public IS 'x'") == []


# ---- moves ----

# Values whose cast to text is not what the stream prints, or whose equality says too little.
KEYS = [("boolean", "true", "t"), ("char(4)", "'ab'", "ab  "), ("inet", "'10.0.0.1'", "10.0.0.1"),
        ("numeric", "1.50", "1.50"), ("timestamptz", "'2026-01-02 03:04:05.678+09'", "2026-01-01 18:04:05.678+00"),
        ("interval", "'1 year 2 days'", "1 year 2 days"), ("bytea", "'\\x00ff'", "\\x00ff"),
        ("float8", "0.1::float8 + 0.2::float8", "0.30000000000000004"), ("text", "'é\"\\ 日本𝄞'", "é\"\\ 日本𝄞"),
        ("int[]", "'{1,NULL}'", "{1,NULL}"), ("\"char\"", "'x'", "x"), ("date", "'2026-02-01'", "2026-02-01")]


@pytest.mark.parametrize("type_name, literal, text", KEYS)
def test_a_move_names_the_key_as_the_stream_prints_it(watched: Sidecar, type_name: str, literal: str, text: str) -> None:
    run = watched.cluster.execute
    run(f"CREATE TABLE t (tenant_id int, k {type_name} PRIMARY KEY); INSERT INTO t VALUES (1, {literal})",
        database=watched.database)
    taken(watched)
    run("SET datestyle = 'German'; SET intervalstyle = 'iso_8601'; SET timezone = 'America/Sao_Paulo';"
        " SET extra_float_digits = 0; SET bytea_output = 'escape'; UPDATE t SET tenant_id = 2", database=watched.database)
    data = taken(watched)
    body = next(json.loads(d.partition(b"pgstrata.move\0")[2][4:]) for d in data if b"pgstrata.move" in d)
    assert (body["old"], body["new"], body["key"]) == ("1", "2", [text])
    # And so does the stream itself, under the settings that pgstrata pins.
    conn = watched.cluster.connect(watched.database, options="-c timezone=UTC")
    with conn.cursor() as cur:
        cur.execute("INSERT INTO t SELECT 3, k FROM t WHERE false; UPDATE t SET tenant_id = 3 RETURNING k")
        cur.execute("SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
                    " 'publication_names', 'pgstrata')", (SLOT,))
        update = next(bytes(row[0]) for row in cur.fetchall() if bytes(row[0])[:1] == b"U")
    conn.close()
    assert update.endswith(text.encode()), update


@pytest.mark.parametrize("type_name, before, after", [
    ("numeric", "1.0", "1.00"), ("float8", "'0'", "'-0'"), ("text COLLATE insensitive", "'acme'", "'ACME'")])
def test_tenants_that_are_equal_and_not_the_same_are_a_move(watched: Sidecar, type_name: str, before: str,
                                                            after: str) -> None:
    """Tenants are known by their text: 1.0 and 1.00 are two of them."""
    watched.cluster.execute(
        "CREATE COLLATION insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        f" CREATE TABLE t (id int PRIMARY KEY, tenant_id {type_name}); INSERT INTO t VALUES (1, {before})",
        database=watched.database)
    taken(watched)
    watched.cluster.execute(f"UPDATE t SET tenant_id = {after}; UPDATE t SET tenant_id = {after}",
                            database=watched.database)
    assert len(messages(watched, "pgstrata.move")) == 1


def test_moves_are_told_after_renames_and_under_replica_role(watched: Sidecar) -> None:
    run = watched.cluster.execute
    run("CREATE TABLE tenants (id int PRIMARY KEY); INSERT INTO tenants VALUES (1), (2);"
        " CREATE TABLE t (id int PRIMARY KEY, tn int REFERENCES tenants); INSERT INTO t VALUES (7, 1);"
        " ALTER TABLE t RENAME tn TO \"Whose?\"; ALTER TABLE t RENAME id TO number; ALTER TABLE t RENAME TO t2",
        database=watched.database)
    taken(watched)
    run("SET session_replication_role = replica; UPDATE t2 SET \"Whose?\" = 2", database=watched.database)
    assert [(m["old"], m["new"], m["key"]) for m in messages(watched, "pgstrata.move")] == [("1", "2", ["7"])]


def test_a_key_that_changes_is_the_key_of_the_next_move(watched: Sidecar) -> None:
    run = watched.cluster.execute
    run("CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, tenant_id int);"
        " INSERT INTO t VALUES (1, 'x', 1); ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key",
        database=watched.database)
    taken(watched)
    run("UPDATE t SET tenant_id = 2", database=watched.database)
    assert [m["key"] for m in messages(watched, "pgstrata.move")] == [["x"]]
    run("ALTER TABLE t REPLICA IDENTITY FULL", database=watched.database)  # the old row says it all
    taken(watched)
    run("UPDATE t SET tenant_id = 3", database=watched.database)
    assert messages(watched, "pgstrata.move") == []


def test_a_move_that_cannot_be_told_is_a_break_and_no_failure(watched: Sidecar) -> None:
    run = watched.cluster.execute
    run("CREATE TABLE t (id int PRIMARY KEY, tenant_id int); INSERT INTO t VALUES (1, 1)", database=watched.database)
    run("ALTER FUNCTION pgstrata.key_columns(oid) RENAME TO gone", database=watched.database)
    taken(watched)
    run("UPDATE t SET tenant_id = 2", database=watched.database)
    assert [m["changed"] for m in messages(watched, "pgstrata.ddl")] == [[oid(watched, "t")]]


def test_bodies_are_ascii_in_every_encoding(cluster: Cluster, database: str, new_sidecar) -> None:
    for encoding, text in (("LATIN1", "ação"), ("WIN1252", "“€”"), ("EUC_JP", "日本")):
        name = f"{database}_{encoding.lower()}"
        cluster.create_database(name, ENCODING=f"'{encoding}'", TEMPLATE="template0", LOCALE="'C'")
        try:
            new_sidecar(cluster, name).ok("setup")
            body = cluster.query_value("SELECT pgstrata.ascii_json(jsonb_build_object('a', %s::text))", (text,), name)
            assert body.isascii() and json.loads(body) == {"a": text}
        finally:
            cluster.drop_database(name)


# ---- setup beside a busy application ----

def test_setup_waits_shortly_for_a_lock_and_names_who_holds_it(cluster: Cluster, database: str,
                                                               sidecar: Sidecar) -> None:
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, tenant_id int); INSERT INTO t VALUES (1, 1)",
                    database=database)
    holder = cluster.connect(database, autocommit=False)
    with holder.cursor() as cur:
        cur.execute("UPDATE t SET tenant_id = 2")
        pid = holder.get_backend_pid()
        error = sidecar.refuses(CONFLICT, "setup", seconds=60)
        assert str(pid) in error["message"] and "public.t" in error["message"], error
    holder.rollback()
    holder.close()
    sidecar.ok("setup")


def test_teardown_drops_nothing_of_the_users(cluster: Cluster, database: str, watched: Sidecar) -> None:
    cluster.execute("CREATE VIEW who AS SELECT pgstrata.set_actor('me')::text", database=database)
    error = watched.refuses(REFUSED, "teardown", "--yes")
    assert "who" in error["message"], error
    cluster.execute("DROP VIEW who", database=database)
    watched.ok("teardown", "--yes")


def test_the_dry_run_is_a_script_that_does_it_all(cluster: Cluster, database: str, sidecar: Sidecar) -> None:
    cluster.execute("CREATE TABLE tenants (id int PRIMARY KEY);"
                    " CREATE TABLE \"T \"\" t\" (id int PRIMARY KEY, tenant_id int)", database=database)
    cluster.psql(database, sidecar.run("setup", "--dry-run", as_json=False).stdout)
    assert sidecar.ok("setup", "--dry-run")["sql"] == ""
    assert sidecar.run("doctor").code == DONE
    wait_for("the slot", lambda: cluster.query("SELECT 1 FROM pg_replication_slots WHERE database = %s",
                                               (database,)), 5)
