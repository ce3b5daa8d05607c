"""setup, doctor and teardown: what pgstrata puts into a database, refuses to, and takes away again."""

from __future__ import annotations

from typing import Any, Callable, Mapping

import pytest

from lib.cluster import Cluster
from lib.school import School, create_school
from lib.sidecar import CONFLICT, DONE, FAILED, REFUSED, Sidecar
from lib.wait import wait_for

# Everything in a database that setup could leave behind; each row is one thing.
FOOTPRINT = """
SELECT 'schema', nspname FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)'
UNION ALL SELECT 'relation', oid::regclass::text FROM pg_class
          WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_')
UNION ALL SELECT 'function', oid::regprocedure::text FROM pg_proc
          WHERE pronamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_')
UNION ALL SELECT 'trigger', tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'event trigger', evtname FROM pg_event_trigger
UNION ALL SELECT 'publication', pubname FROM pg_publication
UNION ALL SELECT 'published', pubname || ' ' || schemaname || '.' || tablename FROM pg_publication_tables
UNION ALL SELECT 'replica identity', oid::regclass || ' ' || relreplident::text FROM pg_class WHERE relkind IN ('r', 'p')
UNION ALL SELECT 'slot', slot_name FROM pg_replication_slots WHERE database = current_database()
ORDER BY 1, 2
"""


def footprint(cluster: Cluster, database: str) -> list[tuple]:
    return cluster.query(FOOTPRINT, database=database)


def by_name(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {f"{table['schema']}.{table['table']}": table for table in answer["tables"]}


def uncovered_school(cluster: Cluster, database: str) -> School:
    conn = cluster.connect(database)
    try:
        return create_school(conn, tenants=2, uncovered=True)
    finally:
        conn.close()


# ---- what it does ----

def test_dry_run_prints_the_sql_and_changes_nothing(cluster: Cluster, database: str, school: School,
                                                    sidecar: Sidecar) -> None:
    before = footprint(cluster, database)
    printed = sidecar.run("setup", "--dry-run", as_json=False)
    assert printed.code == DONE, str(printed)
    for word in ("CREATE SCHEMA", "CREATE PUBLICATION", "pg_create_logical_replication_slot", "alunos"):
        assert word in printed.stdout, f"{word} is missing\n{printed}"
    assert sidecar.ok("setup", "--dry-run")["sql"] == printed.stdout
    assert footprint(cluster, database) == before


def test_setup_tells_route_identity_and_coverage_of_every_table(cluster: Cluster, database: str,
                                                                sidecar: Sidecar) -> None:
    school = uncovered_school(cluster, database)
    tables = by_name(sidecar.ok("setup"))
    assert {table.full_name for table in school.tables} <= tables.keys()
    for name, route, identity in (
            ("public.tenants", "column", "primary key (id)"),
            ("public.alunos", "column", "primary key (tenant_id, numero)"),
            ("public.produtos", "column", "primary key (id)"),
            ("public.frequencias", "column", "index (tenant_id, aluno, dia)"),
            ("public.eventos_outros", "column", "primary key (tenant_id, id, tipo)"),
            ("public.moedas", "shared", "primary key (codigo)"),
    ):
        table = tables[name]
        assert (table["route"], table["identity"], table["covered"], table["published"]) == (
            route, identity, True, True), f"{name}: {table}"
    drafts = tables["public.rascunhos"]
    assert not drafts["covered"] and not drafts["published"] and drafts["why_not"] and drafts["fix"], drafts
    ours = [table for name, table in tables.items() if name.startswith(("pgstrata.", "public.tenant_backup"))]
    assert all(table["route"] == "excluded" and not table["published"] for table in ours), ours

    shown = sidecar.run("setup", as_json=False).stdout
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert {"table", "route", "identity", "covered"} <= set(lines["table"].split()), shown
    assert "yes" in lines["public.alunos"] and "no:" in lines["public.rascunhos"], shown


def test_setup_publishes_exactly_the_covered_tables_one_by_one(cluster: Cluster, database: str,
                                                               sidecar: Sidecar) -> None:
    school = uncovered_school(cluster, database)
    sidecar.setup()
    assert cluster.query("SELECT puballtables FROM pg_publication", database=database) == [(False,)]
    published = {row[0] for row in cluster.query(
        "SELECT n.nspname || '.' || c.relname FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace", database=database)}
    assert published == {table.full_name for table in school.tables} - {"public.rascunhos"}
    # The user's writes to what is not covered go on as before.
    cluster.execute("UPDATE rascunhos SET texto = 'novo'; DELETE FROM rascunhos", database=database)


def test_setup_can_be_repeated(cluster: Cluster, database: str, school: School, sidecar: Sidecar) -> None:
    sidecar.setup()
    once = footprint(cluster, database)
    sidecar.setup()
    assert footprint(cluster, database) == once


def test_teardown_leaves_no_trace(cluster: Cluster, database: str, school: School, sidecar: Sidecar) -> None:
    before = footprint(cluster, database)
    sidecar.setup()
    assert footprint(cluster, database) != before
    set_up = footprint(cluster, database)
    assert sidecar.refuses(REFUSED, "teardown")["hint"], "no question can be asked, so it must not proceed"
    sidecar.ok("teardown", "--dry-run")
    assert footprint(cluster, database) == set_up
    sidecar.ok("teardown", "--yes")
    assert footprint(cluster, database) == before
    sidecar.setup()  # and it can come back


def test_teardown_while_serve_runs_is_a_conflict(serving: Sidecar) -> None:
    before = footprint(serving.cluster, serving.database)
    error = serving.refuses(CONFLICT, "teardown", "--yes")
    assert error["message"] and footprint(serving.cluster, serving.database) == before
    assert serving.terminate() == DONE
    serving.ok("teardown", "--yes")


def test_a_new_table_joins_in_its_creating_transaction(serving: Sidecar, school: School) -> None:
    serving.cluster.execute(
        "BEGIN; CREATE TABLE turmas (id int PRIMARY KEY, tenant_id text NOT NULL, nome text);"
        " INSERT INTO turmas VALUES (1, 'rede-00', 'A'); COMMIT", database=serving.database)
    published = serving.cluster.query("SELECT tablename FROM pg_publication_tables", database=serving.database)
    assert ("turmas",) in published
    wait_for("history of the new table", lambda: [
        (item["op"], item["after"]["nome"])
        for item in serving.ok("history", "-t", "rede-00", "--table", "turmas")["items"]] == [("insert", "A")],
        30, serving.log_tail)


def test_a_table_that_loses_its_key_leaves_the_publication_before_it_can_fail_a_write(
        serving: Sidecar, school: School) -> None:
    serving.cluster.execute("ALTER TABLE avisos DROP CONSTRAINT avisos_pkey", database=serving.database)
    serving.cluster.execute("UPDATE avisos SET texto = 'ainda funciona'", database=serving.database)
    answer = serving.run("doctor")
    assert not by_name(answer.json)["public.avisos"]["covered"], str(answer)


# ---- what it refuses ----

def test_setup_without_logical_wal_is_refused_and_names_the_cure(new_cluster: Callable[..., Cluster],
                                                                 new_sidecar: Callable[..., Sidecar]) -> None:
    cluster = new_cluster(wal_level="replica")
    sidecar = new_sidecar(cluster, "postgres")
    before = footprint(cluster, "postgres")
    error = sidecar.refuses(REFUSED, "setup")
    assert "wal_level" in error["message"] + error["hint"] and "logical" in error["hint"], error
    assert footprint(cluster, "postgres") == before


@pytest.mark.parametrize("command", ["setup", "serve"])
def test_synchronous_standby_names_that_match_everyone_are_refused(command: str, new_cluster: Callable[..., Cluster],
                                                                   new_sidecar: Callable[..., Sidecar]) -> None:
    """Every commit would wait for the archive's storage."""
    cluster = new_cluster()
    cluster.execute("CREATE TABLE tenants (id int PRIMARY KEY)")
    sidecar = new_sidecar(cluster, "postgres")
    if command == "serve":
        sidecar.setup()
    cluster.reload(synchronous_standby_names="*")
    error = sidecar.refuses(REFUSED, command, seconds=30)
    assert "synchronous_standby_names" in error["message"] + error["hint"], error
    doctor = sidecar.run("doctor", seconds=30)
    assert doctor.code == FAILED and "synchronous_standby_names" in doctor.stdout, str(doctor)


def test_a_database_without_encoding_is_refused(cluster: Cluster, database: str,
                                                new_sidecar: Callable[..., Sidecar]) -> None:
    name = f"{database}_ascii"
    cluster.create_database(name, ENCODING="'SQL_ASCII'", TEMPLATE="template0", LOCALE="'C'")
    try:
        error = new_sidecar(cluster, name).refuses(REFUSED, "setup")
        assert "SQL_ASCII" in error["message"], error
    finally:
        cluster.drop_database(name)


def test_serve_before_setup_says_so(school: School, sidecar: Sidecar) -> None:
    result = sidecar.run("serve", seconds=30)
    assert result.code != DONE and "setup" in result.text, str(result)


# ---- roles ----

def test_a_role_without_rights_is_told_the_grants(cluster: Cluster, database: str, school: School,
                                                  new_sidecar: Callable[..., Sidecar]) -> None:
    cluster.execute(f"CREATE ROLE sem_direitos_{database} LOGIN")
    before = footprint(cluster, database)
    result = new_sidecar(cluster, database, user=f"sem_direitos_{database}").run("setup", as_json=False)
    assert result.code in (FAILED, REFUSED), str(result)
    assert "REPLICATION" in result.text and f"sem_direitos_{database}" in result.text, str(result)
    assert footprint(cluster, database) == before, "a failed setup must leave nothing behind"


def test_a_role_without_superuser_can_set_up_serve_and_restore_with_the_grants_of_the_guide(
        cluster: Cluster, database: str, new_sidecar: Callable[..., Sidecar]) -> None:
    owner, role = f"dono_{database}", f"strata_{database}"
    cluster.execute(
        f"CREATE ROLE {owner}; CREATE ROLE {role} LOGIN REPLICATION IN ROLE {owner};"
        f" GRANT CREATE ON DATABASE {database} TO {role}; GRANT SET ON PARAMETER session_replication_role TO {role}")
    cluster.execute(f"GRANT CREATE ON SCHEMA public TO {owner}", database=database)
    conn = cluster.connect(database)
    with conn.cursor() as cur:
        cur.execute(f"SET ROLE {owner}")
    school = create_school(conn, tenants=2)
    conn.close()
    sidecar = new_sidecar(cluster, database, user=role)
    sidecar.start()
    lsn = sidecar.flush()["archived_lsn"]
    cluster.execute("DELETE FROM matriculas WHERE tenant_id = %s", (school.tenants[0],), database=database)
    answer = sidecar.pitr(school.tenants[0], "--target-lsn", lsn)
    assert answer["status"] == "completed" and answer["inserted"] > 0


# ---- doctor ----

def test_doctor_before_setup_finds_that(school: School, sidecar: Sidecar) -> None:
    result = sidecar.run("doctor")
    assert result.code == FAILED and result.json["findings"], str(result)


def test_doctor_is_content_with_a_covered_school(serving: Sidecar) -> None:
    result = serving.run("doctor")
    assert result.code == DONE, str(result)
    assert all(finding["level"] != "error" for finding in result.json["findings"])


def test_doctor_names_what_cannot_be_covered_and_how_to_mend_it(cluster: Cluster, database: str,
                                                                sidecar: Sidecar) -> None:
    uncovered_school(cluster, database)
    cluster.execute(
        "CREATE TABLE documentos (id int PRIMARY KEY, produto_id uuid REFERENCES produtos);"
        " CREATE UNLOGGED TABLE rapida (id int PRIMARY KEY, tenant_id text)", database=database)
    sidecar.setup()
    result = sidecar.run("doctor")
    tables = by_name(result.json)
    for name in ("public.rascunhos", "public.documentos", "public.rapida"):
        assert not tables[name]["covered"] and tables[name]["why_not"], f"{name}\n{result}"
    assert tables["public.documentos"]["route"] == "parent", str(result)
    assert "unlogged" in tables["public.rapida"]["why_not"].lower(), str(result)
    cluster.execute("ALTER TABLE rascunhos ADD id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY", database=database)
    assert by_name(sidecar.run("doctor").json)["public.rascunhos"]["covered"]


def test_doctor_finds_drift_and_fix_mends_it(cluster: Cluster, database: str, school: School,
                                             sidecar: Sidecar) -> None:
    sidecar.setup()
    cluster.execute("ALTER PUBLICATION pgstrata DROP TABLE escolas", database=database)
    found = sidecar.run("doctor")
    assert found.code == FAILED and "escolas" in found.stdout, str(found)
    sidecar.run("doctor", "--fix")
    assert ("escolas",) in cluster.query("SELECT tablename FROM pg_publication_tables", database=database)
    mended = sidecar.run("doctor")
    assert mended.code == DONE, str(mended)
