"""One schema per tenant: every row in a tenant's schema is that tenant's, and new schemas join by themselves."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

from lib.cluster import Cluster
from lib.sidecar import NOT_FOUND, REFUSED, USAGE, Sidecar
from lib.story import Story

PREFIX = "app_"
PATTERN = {"PGSTRATA_TENANT_SCHEMAS": PREFIX + "*"}


def of_tenant(tenant: str) -> str:
    """The same tables in each schema; a child refers to its parent there, and to a shared table."""
    schema = PREFIX + tenant
    return f"""
CREATE SCHEMA {schema};
CREATE TABLE {schema}.turmas (id int PRIMARY KEY, nome text NOT NULL);
CREATE TABLE {schema}.alunos (id int PRIMARY KEY, turma int REFERENCES {schema}.turmas ON DELETE CASCADE,
                              pais text REFERENCES public.paises, nota text, tenant_id text);
INSERT INTO {schema}.turmas SELECT i, '{tenant} ' || i FROM generate_series(1, 5) i;
INSERT INTO {schema}.alunos SELECT i, i % 5 + 1, 'br', 'n' || i FROM generate_series(1, 20) i;
"""


SHARED_TABLES = """
CREATE TABLE paises (code text PRIMARY KEY); INSERT INTO paises VALUES ('br'), ('pt');
CREATE TABLE faturas (id int PRIMARY KEY, tenant_id text NOT NULL REFERENCES tenants, valor numeric);
INSERT INTO faturas SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, i FROM generate_series(1, 10) i;
"""


@pytest.fixture
def schooled(cluster: Cluster, database: str, new_sidecar) -> Sidecar:
    return new_sidecar(cluster, database, settings=PATTERN)


@pytest.fixture
def story(cluster: Cluster, database: str, schooled: Sidecar) -> Story:
    return Story(cluster, database, schooled, tenant_schemas=PREFIX)


def begin(story: Story) -> None:
    story.begin(SHARED_TABLES + of_tenant("a") + of_tenant("b"))


def test_setup_prints_the_route_and_covers_the_tables(story: Story) -> None:
    begin(story)
    tables = {f"{t['schema']}.{t['table']}": t for t in story.sidecar.run("doctor").json["tables"]}
    for name in ("app_a.turmas", "app_a.alunos", "app_b.turmas", "app_b.alunos"):
        assert (tables[name]["route"], tables[name]["covered"]) == ("schema", True), tables[name]
    assert tables["app_a.turmas"]["route_reason"] == "schema app_a"
    assert tables["public.faturas"]["route"] == "column"
    assert tables["public.paises"]["route"] == "shared"


def test_a_schema_goes_back_without_the_others(story: Story) -> None:
    begin(story)
    story.then("changed", "UPDATE app_a.alunos SET nota = 'x' WHERE id < 9; UPDATE app_b.alunos SET nota = 'y'",
               "INSERT INTO app_a.turmas VALUES (77, 'nova'); INSERT INTO app_a.alunos VALUES (99, 77, 'pt', NULL)",
               "UPDATE faturas SET valor = valor * 2")
    story.then("keys", "UPDATE app_a.alunos SET id = id + 1000 WHERE id < 5; UPDATE app_b.alunos SET id = -id")
    story.base()
    # The column says another tenant; the schema it stands in is what counts.
    story.then("named otherwise", "UPDATE app_a.alunos SET tenant_id = 'b' WHERE id > 10")
    story.then("cascade", "DELETE FROM app_a.turmas WHERE id IN (1, 2); DELETE FROM app_b.turmas WHERE id = 3")
    story.then("truncated", "TRUNCATE app_a.turmas CASCADE; INSERT INTO app_a.turmas VALUES (1, 'de novo')")
    story.check()
    story.back_to_each("a")
    story.back_to_each("b")
    assert story.sidecar.ok("verify", "--live")["problems"] == []
    assert story.sidecar.ok("verify", "--live", "-t", "a")["problems"] == []


def test_a_new_schema_joins_by_itself(story: Story) -> None:
    begin(story)
    story.then("joined", "INSERT INTO tenants VALUES ('c', 'C');" + of_tenant("c"))
    story.then("used", "UPDATE app_c.alunos SET nota = 'c'; DELETE FROM app_c.alunos WHERE id = 3")
    story.then("a table more", "CREATE TABLE app_c.provas (id int PRIMARY KEY, aluno int REFERENCES app_c.alunos);"
                               " INSERT INTO app_c.provas VALUES (1, 1)")
    story.then("more", "DELETE FROM app_c.provas; INSERT INTO app_c.provas VALUES (2, 2)")
    story.check()
    story.back_to("a table more", "c")
    story.back_to("a table more", "a")


def test_a_dropped_schema_comes_back_beside(story: Story, folder: Path) -> None:
    begin(story)
    story.then("before", "UPDATE app_a.alunos SET nota = 'antes' WHERE id = 1")
    target = story.moment("before").target
    story.then("gone", "DROP SCHEMA app_a CASCADE")
    story.check()
    error = story.sidecar.refuses(REFUSED, "pitr", "-t", "a", *target.pitr_words(), "--yes")
    assert error["code"] == "table_dropped", error
    story.sidecar.ok("pitr", "-t", "a", *target.pitr_words(), "--to-schema", "volta", "--yes")
    assert story.sidecar.cluster.query_value(
        "SELECT string_agg(nota, ',' ORDER BY id) FROM volta.alunos WHERE id < 3",
        database=story.sidecar.database) == "antes,n2"


def test_a_renamed_schema_is_another_tenants(story: Story) -> None:
    """No row event tells whose the rows were: neither tenant is answered across it."""
    begin(story)
    story.then("before", "UPDATE app_a.alunos SET nota = 'antes'")
    target = story.moment("before").target
    story.execute("INSERT INTO tenants VALUES ('z', 'Z'); ALTER SCHEMA app_a RENAME TO app_z")
    story.sidecar.ok("base")
    story.remember("after")
    story.check("before", "after")
    old = story.sidecar.refuses(REFUSED, "pitr", "-t", "a", *target.pitr_words(), "--yes")
    assert old["code"] == "shape_changed" and "schema" in old["message"], old
    new = story.sidecar.refuses(REFUSED, "pitr", "-t", "z", *target.pitr_words(), "--yes")
    assert new["code"] == "uncovered_tables" and "not this tenant's at that moment" in new["message"], new


def test_a_renamed_schema_is_noticed_without_event_triggers(story: Story) -> None:
    """What the Relation message and the catalog show bounds where the rows changed hands."""
    begin(story)
    database, cluster = story.sidecar.database, story.sidecar.cluster
    for (name,) in cluster.query("SELECT quote_ident(evtname) FROM pg_event_trigger", database=database):
        story.execute(f"ALTER EVENT TRIGGER {name} DISABLE")
    story.then("before", "UPDATE app_a.alunos SET nota = 'antes'")
    story.base()  # up to here stream and server agree
    story.then("renamed", "INSERT INTO tenants VALUES ('z', 'Z')", "ALTER SCHEMA app_a RENAME TO app_z")
    story.then("used", "UPDATE app_z.alunos SET nota = 'depois'", "UPDATE app_z.alunos SET nota = 'ainda' WHERE id = 1")
    story.sidecar.flush()
    story.sidecar.ok("base")
    story.then("after", "UPDATE app_z.alunos SET nota = 'fim' WHERE id = 2")
    story.check("before", "after")
    for tenant, label in product(("a", "z"), ("renamed", "used")):
        error = story.sidecar.refuses(
            REFUSED, "export", "-t", tenant, *story.moment(label).target.export_words(), "--format", "jsonl",
            "-o", str(story.sidecar.logfile.parent / f"never-{tenant}-{label}"))
        assert error["code"] == "outside_coverage", error


def test_schemas_go_on_after_kill_9(story: Story) -> None:
    begin(story)
    for turn in range(3):
        story.sidecar.kill9()
        story.then(f"while away {turn}", f"UPDATE app_a.alunos SET nota = 'volta {turn}' WHERE id < 7",
                   f"INSERT INTO tenants VALUES ('t{turn}', 'T');" + of_tenant(f"t{turn}"))
        story.sidecar.start_serve()
        story.sidecar.wait_ready()
        story.then(f"back {turn}", f"DELETE FROM app_t{turn}.alunos WHERE id > 15")
    story.check()
    story.back_to("beginning", "a")
    story.back_to("while away 1", "t1")


def test_a_pattern_given_later_counts_from_there_on(cluster: Cluster, database: str, sidecar: Sidecar) -> None:
    """Until then the tables were shared; whose they are changes as a table's shape does."""
    story = Story(cluster, database, sidecar)
    begin(story)
    story.then("shared", "UPDATE app_a.alunos SET nota = 'comum'")
    story.base()
    sidecar.terminate()
    sidecar.environment.update(PATTERN)
    sidecar.start()
    sidecar.ok("base")
    later = Story(cluster, database, sidecar, tenant_schemas=PREFIX)
    later.then("theirs", "UPDATE app_a.alunos SET nota = 'sua' WHERE id < 9", "DELETE FROM app_b.alunos")
    later.then("since", "DELETE FROM app_a.alunos WHERE id < 4")
    story.check("beginning", "shared")
    later.check("theirs", "since")
    later.back_to("theirs", "a")
    error = sidecar.refuses(REFUSED, "pitr", "-t", "a", *story.moment("shared").target.pitr_words(), "--yes")
    assert error["code"] == "uncovered_tables" and "not this tenant's at that moment" in error["message"], error


def test_triggers_decide_on_schemas_as_the_program_decides(
        cluster: Cluster, database: str, new_sidecar, folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({"routes": {
        "app_a.comum": {"route": "shared"}, "app_a.por_coluna": {"route": "column", "column": "dono"},
        "app_a.fora": {"route": "excluded"}, "public.solo": {"route": "schema"}}}))
    watched = new_sidecar(cluster, database, settings={**PATTERN, "PGSTRATA_CONFIG": str(file)})
    watched.ok("setup")
    cluster.execute("""
        CREATE TABLE tenants (id text PRIMARY KEY); CREATE SCHEMA app_a; CREATE SCHEMA app_; CREATE SCHEMA "app_É x";
        CREATE TABLE app_a.comum (id int PRIMARY KEY); CREATE TABLE app_a.fora (id int PRIMARY KEY);
        CREATE TABLE app_a.por_coluna (id int PRIMARY KEY, dono text);
        CREATE TABLE app_a.sem_chave (id int); CREATE TABLE app_a.filha (id int PRIMARY KEY, t text REFERENCES tenants);
        CREATE TABLE app_a.neta (id int PRIMARY KEY, f int REFERENCES app_a.filha, tenant_id text);
        CREATE TABLE app_.ninguem (id int PRIMARY KEY); CREATE TABLE "app_É x"."Ünï" (id int PRIMARY KEY);
        CREATE TABLE de_fora (id int PRIMARY KEY, f int REFERENCES app_a.filha);
        CREATE TABLE solo (id int PRIMARY KEY);
        CREATE TABLE app_a.tenant_backups (id int PRIMARY KEY)""", database=database)
    in_sql = {name: (covered, published, own) for name, covered, published, own in cluster.query(
        "SELECT n.nspname || '.' || c.relname, pgstrata.is_covered(c.oid), EXISTS (SELECT FROM pg_publication_rel"
        " WHERE prrelid = c.oid), pgstrata.is_tenants_own(c.oid) FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname ~ '^(public|app_)'", database=database)}
    tables = {f"{t['schema']}.{t['table']}": t for t in watched.run("doctor").json["tables"]}
    for name, (covered, published, own) in in_sql.items():
        assert covered == tables[name]["covered"] == published, f"{name}: {tables[name]}"
        assert own == (tables[name]["route"] == "schema"), f"{name}: {tables[name]}"
    assert {name for name, (*_, own) in in_sql.items() if own} == {
        "app_a.sem_chave", "app_a.filha", "app_a.neta", "app_É x.Ünï", "public.solo"}


def test_the_pattern_has_one_star(schooled: Sidecar) -> None:
    for wrong in ("app_", "*_*"):
        error = schooled.refuses(USAGE, "doctor", environment={"PGSTRATA_TENANT_SCHEMAS": wrong})
        assert "one star" in error["message"], error


def test_unknown_schemas_are_no_tenants(story: Story) -> None:
    begin(story)
    assert story.sidecar.refuses(NOT_FOUND, "export", "-t", "nobody", "--format", "jsonl", "-o", "/nowhere")
