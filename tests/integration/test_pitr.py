"""pitr in place: one tenant goes back, nobody else notices, and it can be undone."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import psycopg2.extensions
import pytest

from lib import targets, wal
from lib.checks import live_rows, physical_rows, rows_written_by
from lib.cluster import Cluster
from lib.oracle import Oracle
from lib.proxy import losing_answers
from lib.rows import Rows, assert_same_rows, differences, read_tenant
from lib.school import School, create_school
from lib.sidecar import CONFLICT, DONE, NOT_FOUND, REFUSED, USAGE, Sidecar
from lib.wait import wait_for
from lib.workload import Workload

PATIENT = "rede-00"  # whom the accidents happen to
NEIGHBOURS = ["rede-01", "rede-02"]  # who keep writing
BYSTANDER = "rede-03"  # whose rows nobody writes


@dataclass
class Ward:
    """A school that is archived, and the tenant's state before an accident."""

    sidecar: Sidecar
    school: School
    cluster: Cluster
    database: str

    def rows(self, tenant: str = PATIENT) -> Rows:
        with self.cluster.session(self.database) as cur:
            return read_tenant(cur, self.school.tables, tenant)

    def lsn(self) -> str:
        """Here and now: everything committed so far lies before it."""
        return self.sidecar.flush()["archived_lsn"]

    def execute(self, sql: str, *params: object) -> None:
        self.cluster.execute(sql, params, self.database)

    def accident(self) -> None:
        """Wrong rows, missing rows, new rows, changed keys; in parents and children."""
        with self.cluster.session(self.database, autocommit=False) as cur:
            cur.execute("UPDATE alunos SET nome = 'x', media = 0 WHERE tenant_id = %s AND numero %% 2 = 0", (PATIENT,))
            cur.execute("DELETE FROM escolas WHERE id = (SELECT min(id) FROM escolas WHERE tenant_id = %s)", (PATIENT,))
            cur.execute("DELETE FROM matriculas WHERE tenant_id = %s AND aluno %% 3 = 0", (PATIENT,))
            cur.execute("UPDATE alunos SET numero = numero + 5000 WHERE tenant_id = %s AND numero < 5", (PATIENT,))
            cur.execute("INSERT INTO escolas (tenant_id, nome, turno) VALUES (%s, 'errada', 'noite') RETURNING id",
                        (PATIENT,))
            cur.execute("INSERT INTO alunos (tenant_id, numero, escola_id, nome) VALUES (%s, 777777, %s, 'errado')",
                        (PATIENT, cur.fetchone()[0]))
            cur.execute("UPDATE tenants SET nome = 'errado' WHERE id = %s", (PATIENT,))
            cur.execute("DELETE FROM frequencias WHERE tenant_id = %s", (PATIENT,))
            cur.connection.commit()


@pytest.fixture
def ward(serving: Sidecar, school: School, cluster: Cluster, database: str) -> Ward:
    return Ward(serving, school, cluster, database)


# ---- the main story ----

def test_under_load_the_tenant_equals_the_oracle_others_are_untouched_and_undo_brings_back(
        new_cluster: Callable[..., Cluster], new_sidecar: Callable[..., Sidecar], folder: Path) -> None:
    cluster = new_cluster(archive=True)
    conn = cluster.connect()
    school = create_school(conn)
    conn.close()
    sidecar = new_sidecar(cluster, "postgres")
    sidecar.start()
    ward = Ward(sidecar, school, cluster, "postgres")
    oracle = Oracle.take(cluster, folder / "oracle")
    begin = cluster.insert_lsn()
    try:
        with Workload(cluster, "postgres", NEIGHBOURS, seed=11, writers=6) as neighbours:
            with Workload(cluster, "postgres", [PATIENT], seed=12, writers=2) as patient:
                patient.wait_commits(60)
            wrong = ward.rows()
            bystander = physical_rows(cluster, "postgres", school, [BYSTANDER])
            chosen = random.Random(11).choice(patient.committed[10:40]).xid
            neighbours.wait_commits(10)

            back = sidecar.pitr(PATIENT, "--target-xid", str(chosen))
            restored = ward.rows()
            neighbours.wait_commits(10)

            assert back["status"] == "completed" and back["last_kept"]["xid"] >= chosen, back
            assert_changes_match(back, wrong, restored)
            assert back["innocence"] == {"other_tenants_versions": 0}, back
            assert physical_rows(cluster, "postgres", school, [BYSTANDER]) == bystander
            assert set(rows_written_by(cluster, "postgres", school, back["xid"])) == {PATIENT}

            undone = sidecar.pitr(PATIENT, "--target-name", back["restore_point"])
            assert_same_rows(wrong, ward.rows(), "the undo must bring back what was there before")
            assert set(rows_written_by(cluster, "postgres", school, undone["xid"])) == {PATIENT}
            assert physical_rows(cluster, "postgres", school, [BYSTANDER]) == bystander
        assert_no_orphans(cluster, "postgres")

        sidecar.flush()
        end = cluster.insert_lsn()
        cluster.switch_wal()
        commit = next(e for e in wal.endings(cluster, begin, end) if e.commit and e.xid == chosen)
        expected = oracle.rows("postgres", school.tables, [PATIENT], targets.at_xid(commit))[PATIENT]
        assert_same_rows(expected, restored, f"{PATIENT} after pitr --target-xid {chosen}, against the oracle")
    finally:
        oracle.remove()


def assert_changes_match(answer: Mapping[str, Any], before: Rows, after: Rows) -> None:
    """The counts of the answer are those of the rows that really differ."""
    for table in answer["tables"]:
        name = table["name"]
        found = differences({name: before[name]}, {name: after[name]})
        if not found:
            assert table["inserted"] == table["updated"] == table["deleted"] == 0, f"{name}: only equal rows\n{table}"
            continue
        missing, surplus = (int(part.split()[0]) for part in found[0].split(";")[1].split(","))
        assert table["deleted"] + table["updated"] == missing and table["inserted"] + table["updated"] == surplus, (
            f"{table} does not match {found[0]}")
    for count in ("inserted", "updated", "deleted"):
        assert answer[count] == sum(table[count] for table in answer["tables"]), answer


def assert_no_orphans(cluster: Cluster, database: str) -> None:
    """Foreign keys hold, although the restore worked with their triggers off."""
    for name, child, parent, condition in (
            ("aluno", "matriculas", "alunos", "p.tenant_id = c.tenant_id AND p.numero = c.aluno"),
            ("produto", "matriculas", "produtos", "p.id = c.produto_id"),
            ("escola", "alunos", "escolas", "p.id = c.escola_id")):
        orphans = cluster.query(
            f"SELECT c.* FROM {child} c WHERE NOT EXISTS (SELECT FROM {parent} p WHERE {condition})", database=database)
        assert not orphans, f"{child} without {name}: {orphans[:3]}"


@pytest.mark.parametrize("target", ["--target-time", "--target-lsn", "--target-name", "--before-xid"])
def test_every_kind_of_target_puts_back_what_an_accident_changed(ward: Ward, target: str) -> None:
    before = ward.rows()
    ward.sidecar.ok("restore-point", "create", "antes")
    lsn = ward.lsn()
    time = ward.cluster.query_value("SELECT clock_timestamp()::text")
    ward.accident()
    assert ward.rows() != before
    culprit = ward.sidecar.ok("history", "-t", PATIENT, "--limit", "1")["items"][0]["xid"]
    value = {"--target-time": time, "--target-lsn": lsn, "--target-name": "antes", "--before-xid": str(culprit)}[target]
    answer = ward.sidecar.pitr(PATIENT, target, value)
    assert answer["status"] == "completed" and answer["first_undone"]["xid"] == culprit, answer
    assert_same_rows(before, ward.rows(), f"{PATIENT} after pitr {target} {value}")
    assert_no_orphans(ward.cluster, ward.database)
    again = ward.sidecar.pitr(PATIENT, target, value)
    assert again["inserted"] == again["updated"] == again["deleted"] == 0, "the second time nothing is left to do"


def test_only_rows_that_differ_are_written(ward: Ward) -> None:
    lsn = ward.lsn()
    ward.execute("UPDATE alunos SET media = 1 WHERE tenant_id = %s AND numero = 7", PATIENT)
    rest = physical_rows(ward.cluster, ward.database, ward.school, [PATIENT])
    answer = ward.sidecar.pitr(PATIENT, "--target-lsn", lsn)
    assert (answer["inserted"], answer["updated"], answer["deleted"]) == (0, 1, 0), answer
    # Without the fourth column, xmax: the tenant's row and the parents of what is changed are locked.
    now = physical_rows(ward.cluster, ward.database, ward.school, [PATIENT])
    changed = {row[:3] for row in rest} ^ {row[:3] for row in now}
    assert len(changed) <= 2 and {row[0] for row in changed} == {"public.alunos"}, changed


def test_a_tenant_whose_key_is_a_uuid_goes_back(cluster: Cluster, database: str, sidecar: Sidecar) -> None:
    conn = cluster.connect(database)
    school = create_school(conn, tenants=2, tenant_type="uuid")
    conn.close()
    sidecar.start()
    tenant = school.tenants[0]
    before = live_rows(cluster, database, school)
    lsn = sidecar.flush()["archived_lsn"]
    cluster.execute("DELETE FROM matriculas WHERE tenant_id = %s", (tenant,), database)
    cluster.execute("UPDATE escolas SET nome = 'x'", database=database)
    sidecar.pitr(tenant, "--target-lsn", lsn)
    after = live_rows(cluster, database, school)
    assert_same_rows(before[tenant], after[tenant], tenant)
    assert {row["nome"] for row in after[school.tenants[1]]["public.escolas"]} == {"x"}


def test_a_deleted_tenant_comes_back_whole(ward: Ward) -> None:
    before = ward.rows()
    lsn = ward.lsn()
    with ward.cluster.session(ward.database, autocommit=False) as cur:
        for table in ("matriculas", "alunos", "escolas", "produtos", "frequencias", "eventos", "avisos"):
            cur.execute(f"DELETE FROM {table} WHERE tenant_id = %s", (PATIENT,))
        cur.execute('DELETE FROM "Turmas à Noite" WHERE tenant_id = %s', (PATIENT,))
        cur.execute("DELETE FROM tenants WHERE id = %s", (PATIENT,))
        cur.connection.commit()
    assert not any(ward.rows().values())
    ward.sidecar.pitr(PATIENT, "--target-lsn", lsn)
    assert_same_rows(before, ward.rows(), PATIENT)


# ---- looking first ----

def test_dry_run_shows_counts_and_samples_and_changes_nothing(ward: Ward) -> None:
    lsn = ward.lsn()
    ward.accident()
    everyone = ward.school.tenants
    before = physical_rows(ward.cluster, ward.database, ward.school, everyone)
    preview = ward.sidecar.ok("pitr", "-t", PATIENT, "--target-lsn", lsn, "--dry-run")
    assert preview["status"] == "previewed" and preview["restore_point"] is None, preview
    assert preview["inserted"] > 0 and preview["updated"] > 0 and preview["deleted"] > 0, preview
    assert physical_rows(ward.cluster, ward.database, ward.school, everyone) == before
    wrong_school = [s for s in preview["samples"] if s["table"] == "public.escolas" and s["op"] == "delete"]
    assert wrong_school and wrong_school[0]["before"]["nome"] == "errada" and wrong_school[0]["after"] is None, preview
    assert any(s["op"] == "insert" and s["before"] is None for s in preview["samples"])
    applied = ward.sidecar.pitr(PATIENT, "--target-lsn", lsn, "--plan", preview["plan"])
    for count in ("inserted", "updated", "deleted", "plan"):
        assert applied[count] == preview[count], f"{count}: {applied} after {preview}"


def test_a_plan_whose_rows_changed_meanwhile_is_a_conflict(ward: Ward) -> None:
    lsn = ward.lsn()
    ward.accident()
    plan = ward.sidecar.ok("pitr", "-t", PATIENT, "--target-lsn", lsn, "--dry-run")["plan"]
    ward.execute("UPDATE alunos SET nome = 'entretanto' WHERE tenant_id = %s AND numero = 7", PATIENT)
    changed = ward.rows()
    error = ward.sidecar.refuses(CONFLICT, "pitr", "-t", PATIENT, "--target-lsn", lsn, "--plan", plan, "--yes")
    assert "alunos" in error["message"] + error["hint"], f"what changed must be named: {error}"
    assert_same_rows(changed, ward.rows(), "a refused plan must change nothing")


def test_a_plan_stands_when_only_other_tenants_write(ward: Ward) -> None:
    lsn = ward.lsn()
    ward.accident()
    plan = ward.sidecar.ok("pitr", "-t", PATIENT, "--target-lsn", lsn, "--dry-run")["plan"]
    with Workload(ward.cluster, ward.database, NEIGHBOURS, writers=2) as workload:
        workload.wait_commits(20)
        ward.sidecar.pitr(PATIENT, "--target-lsn", lsn, "--plan", plan)


# ---- parts, and elsewhere ----

def test_tables_limits_the_restore_to_those_named(ward: Ward) -> None:
    before = ward.rows()
    lsn = ward.lsn()
    ward.execute("UPDATE alunos SET nome = 'x' WHERE tenant_id = %s", PATIENT)
    ward.execute('UPDATE "Turmas à Noite" SET "Descrição" = \'x\' WHERE tenant_id = %s', PATIENT)
    wrong = ward.rows()
    answer = ward.sidecar.pitr(PATIENT, "--target-lsn", lsn, "--tables", "public.Turmas à Noite,avisos")
    assert {table["name"] for table in answer["tables"]} == {"public.Turmas à Noite", "public.avisos"}, answer
    after = ward.rows()
    assert_same_rows(before | {"public.alunos": wrong["public.alunos"]}, after, "only the named tables go back")
    error = ward.sidecar.refuses(NOT_FOUND, "pitr", "-t", PATIENT, "--target-lsn", lsn, "--tables", "nenhuma")
    assert "nenhuma" in error["message"], error


def test_to_schema_loads_the_rows_beside_the_live_ones(ward: Ward) -> None:
    before = ward.rows()
    lsn = ward.lsn()
    ward.accident()
    live = physical_rows(ward.cluster, ward.database, ward.school, ward.school.tenants)
    ward.sidecar.pitr(PATIENT, "--target-lsn", lsn, "--to-schema", "ontem")
    assert physical_rows(ward.cluster, ward.database, ward.school, ward.school.tenants) == live
    beside = {}
    with ward.cluster.session(ward.database) as cur:
        for table in ward.school.tables:
            if table.tenant_column is not None:
                other = type(table)("ontem", table.name, table.columns, table.tenant_column)
                beside[table.full_name] = read_tenant(cur, [other], PATIENT)[other.full_name]
    assert_same_rows(before, beside, "schema ontem")


# ---- concurrency ----

@pytest.fixture
def other_session(ward: Ward) -> Iterator[psycopg2.extensions.cursor]:
    """An application in the middle of a transaction."""
    with ward.cluster.session(ward.database, autocommit=False) as cur:
        yield cur


def finish(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str]:
    stdout, stderr = process.communicate(timeout=seconds)
    return process.returncode, stdout + stderr


def wait_until_blocked(ward: Ward, process: subprocess.Popen[str], by: int) -> None:
    """Until the restore waits for that session, or has ended."""
    wait_for(f"pitr to wait for {by}", lambda: process.poll() is not None or ward.cluster.query_value(
        "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", (by,)) > 0, 30)


def test_a_child_inserted_meanwhile_by_another_session_leaves_no_orphan(
        ward: Ward, other_session: psycopg2.extensions.cursor) -> None:
    """The restore deletes a student who was not there; an enrolment of that student commits meanwhile."""
    before = ward.rows()
    lsn = ward.lsn()
    ward.execute("INSERT INTO alunos (tenant_id, numero, escola_id, nome) SELECT tenant_id, 424242, min(id), 'novo'"
                 " FROM escolas WHERE tenant_id = %s GROUP BY 1", PATIENT)
    other_session.execute("INSERT INTO matriculas (tenant_id, aluno, produto_id, valor)"
                          " SELECT tenant_id, 424242, id, 1 FROM produtos WHERE tenant_id = %s LIMIT 1", (PATIENT,))
    process = ward.sidecar.begin("pitr", "-t", PATIENT, "--target-lsn", lsn, "--yes", "--lock-timeout", "30s")
    wait_until_blocked(ward, process, other_session.connection.info.backend_pid)
    other_session.connection.commit()
    code, said = finish(process)
    assert_no_orphans(ward.cluster, ward.database)
    assert code in (DONE, CONFLICT), said
    if code == DONE:
        assert_same_rows(before, ward.rows(), PATIENT)


def test_a_row_changed_meanwhile_is_not_overwritten_unseen(ward: Ward,
                                                           other_session: psycopg2.extensions.cursor) -> None:
    before = ward.rows()
    lsn = ward.lsn()
    ward.accident()
    other_session.execute("UPDATE alunos SET nome = 'entretanto' WHERE tenant_id = %s AND numero = 8", (PATIENT,))
    process = ward.sidecar.begin("pitr", "-t", PATIENT, "--target-lsn", lsn, "--yes", "--lock-timeout", "30s")
    wait_until_blocked(ward, process, other_session.connection.info.backend_pid)
    other_session.connection.commit()
    code, said = finish(process)
    assert code in (DONE, CONFLICT), said
    if code == DONE:
        assert_same_rows(before, ward.rows(), "a restore that says it is done must be exact")
    else:
        names = {row["nome"] for row in ward.rows()["public.alunos"]}
        assert "entretanto" in names, "a conflict must leave what is there"


def test_a_lock_that_does_not_come_free_names_its_holder_and_changes_nothing(
        ward: Ward, other_session: psycopg2.extensions.cursor) -> None:
    lsn = ward.lsn()
    ward.accident()
    wrong = ward.rows()
    other_session.execute("SELECT FROM alunos WHERE tenant_id = %s FOR UPDATE", (PATIENT,))
    holder = other_session.connection.info.backend_pid
    result = ward.sidecar.run("pitr", "-t", PATIENT, "--target-lsn", lsn, "--yes", "--lock-timeout", "1s")
    assert result.code != DONE and str(holder) in result.error["message"] + result.error["hint"], str(result)
    assert_same_rows(wrong, ward.rows(), "without the lock nothing may change")
    other_session.connection.rollback()
    ward.sidecar.pitr(PATIENT, "--target-lsn", lsn)


SPOILING_TRIGGER = """
CREATE FUNCTION estraga() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.nome := 'estragado'; RETURN NEW; END $$;
CREATE TRIGGER estraga BEFORE INSERT OR UPDATE ON escolas FOR EACH ROW EXECUTE FUNCTION estraga();
"""


def test_user_triggers_do_not_fire_during_a_restore(ward: Ward) -> None:
    before = ward.rows()
    ward.execute(SPOILING_TRIGGER)
    lsn = ward.lsn()
    ward.accident()
    ward.sidecar.pitr(PATIENT, "--target-lsn", lsn)
    assert_same_rows(before, ward.rows(), PATIENT)


def test_a_trigger_that_cannot_be_switched_off_makes_the_restore_refuse(ward: Ward) -> None:
    lsn = ward.lsn()
    ward.accident()
    ward.execute(SPOILING_TRIGGER + "ALTER TABLE escolas ENABLE ALWAYS TRIGGER estraga")
    wrong = ward.rows()
    error = ward.sidecar.refuses(REFUSED, "pitr", "-t", PATIENT, "--target-lsn", lsn, "--yes")
    assert "estraga" in error["message"] + error["hint"], error
    assert_same_rows(wrong, ward.rows(), "refused, so nothing may have changed")


def test_unique_values_that_swap_are_put_back(ward: Ward) -> None:
    ward.execute("CREATE UNIQUE INDEX ON produtos (tenant_id, nome)")
    before = ward.rows()
    lsn = ward.lsn()
    with ward.cluster.session(ward.database) as cur:
        cur.execute("SELECT id::text, nome FROM produtos WHERE tenant_id = %s ORDER BY nome LIMIT 2", (PATIENT,))
        (one, name_one), (two, name_two) = cur.fetchall()
        for product, name in ((one, "-"), (two, name_one), (one, name_two)):
            cur.execute("UPDATE produtos SET nome = %s WHERE id = %s", (name, product))
    ward.sidecar.pitr(PATIENT, "--target-lsn", lsn)
    assert_same_rows(before, ward.rows(), PATIENT)


# ---- what is refused ----

def test_a_target_in_the_future_is_refused(ward: Ward) -> None:
    for target in (("--target-time", "2999-01-01T00:00:00Z"), ("--target-lsn", "FFFF/0")):
        error = ward.sidecar.refuses(REFUSED, "pitr", "-t", PATIENT, *target, "--dry-run")
        assert error["code"] == "future", error


def test_a_target_before_coverage_is_refused_with_the_nearest_moments(cluster: Cluster, database: str, school: School,
                                                                      sidecar: Sidecar) -> None:
    early = cluster.insert_lsn()
    cluster.execute("UPDATE avisos SET texto = 'antes de tudo'", database=database)
    sidecar.start()
    before = physical_rows(cluster, database, school, school.tenants)
    for target in (("--target-lsn", early), ("--target-time", "2020-01-01T00:00:00Z")):
        error = sidecar.refuses(REFUSED, "pitr", "-t", PATIENT, *target, "--yes")
        assert error["nearest_after"]["lsn"] and error["nearest_after"]["time"], error
        assert error["nearest_before"] is None, "nothing lies before the first base"
    assert physical_rows(cluster, database, school, school.tenants) == before
    nearest = error["nearest_after"]["lsn"]
    assert sidecar.ok("pitr", "-t", PATIENT, "--target-lsn", nearest, "--dry-run")["status"] == "previewed"


def test_an_unknown_tenant_is_not_found(ward: Ward) -> None:
    error = ward.sidecar.refuses(NOT_FOUND, "pitr", "-t", "ninguém", "--target-lsn", ward.lsn(), "--dry-run")
    assert "ninguém" in error["message"], error


@pytest.mark.parametrize("kind, value", [("--target-xid", "4000000000"), ("--target-name", "nunca"),
                                         ("--before-xid", "1"), ("--before-lsn", "0/1")])
def test_a_target_that_never_was_is_not_found(ward: Ward, kind: str, value: str) -> None:
    result = ward.sidecar.run("pitr", "-t", PATIENT, kind, value, "--dry-run")
    assert result.code in (NOT_FOUND, REFUSED) and value in result.error["message"], str(result)


@pytest.mark.parametrize("words", [
    (), ("--target-lsn", "0/1", "--target-xid", "7"), ("--target-lsn", "0/1", "--exclusive"),
    ("--target-lsn", "no lsn"), ("--target-time", "yesterday-ish"), ("--target-xid", "-1"),
], ids=["none", "two", "exclusive with an LSN", "no LSN", "no time", "no xid"])
def test_a_target_that_cannot_be_understood_is_a_usage_error(ward: Ward, words: tuple[str, ...]) -> None:
    assert ward.sidecar.refuses(USAGE, "pitr", "-t", PATIENT, *words)["message"]


def test_an_uncovered_table_refuses_unless_it_is_left_out_by_name(cluster: Cluster, database: str,
                                                                  sidecar: Sidecar) -> None:
    conn = cluster.connect(database)
    create_school(conn, tenants=2, uncovered=True)
    conn.close()
    sidecar.setup()
    sidecar.start_serve()
    lsn = sidecar.flush()["archived_lsn"]
    error = sidecar.refuses(REFUSED, "pitr", "-t", PATIENT, "--target-lsn", lsn, "--dry-run")
    assert error["code"] == "uncovered_tables" and "rascunhos" in error["message"], error
    wait_for("the first bases", lambda: sidecar.run(
        "pitr", "-t", PATIENT, "--target-lsn", sidecar.flush()["archived_lsn"], "--exclude-tables", "rascunhos",
        "--dry-run").code == DONE, 30, sidecar.log_tail)


def test_a_commit_whose_answer_is_lost_is_told_as_what_it_was(ward: Ward, folder: Path) -> None:
    """The connection ends at COMMIT: first that of the restore point, and nothing is done; then that of the
    restore itself, and it is done."""
    before, lsn = ward.rows(), ward.lsn()
    ward.accident()
    wrong = ward.rows()
    dsn = ward.sidecar.environment["PGSTRATA_DSN"]
    for number, done in ((1, False), (2, True)):
        place = folder / f"proxy{number}"
        place.mkdir()
        with losing_answers(place, ward.cluster.port, ward.cluster.folder, "COMMIT", number) as proxy:
            answer = ward.sidecar.run("pitr", "-t", PATIENT, "--target-lsn", lsn, "--yes", environment={
                "PGSTRATA_DSN": dsn.replace(f"host={ward.cluster.folder}", f"host={place}")})
            assert proxy.lost
        assert (answer.code == DONE) == done, str(answer)
        assert_same_rows(before if done else wrong, ward.rows(), f"after the answer of COMMIT {number} was lost")
    assert answer.json["status"] == "completed", str(answer)
    ward.sidecar.pitr(PATIENT, "--target-name", answer.json["restore_point"])
    assert_same_rows(wrong, ward.rows(), "undone")


def test_without_serve_it_gives_up_in_time_and_changes_nothing(ward: Ward) -> None:
    lsn = ward.lsn()
    ward.accident()
    wrong = ward.rows()
    assert ward.sidecar.terminate() == DONE
    result = ward.sidecar.run("pitr", "-t", PATIENT, "--target-lsn", lsn, "--yes", "--timeout", "1s")
    assert result.code == 1 and result.error["code"] == "archiver_not_running", str(result)
    assert_same_rows(wrong, ward.rows(), "nothing may have changed")
