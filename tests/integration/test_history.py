"""history and diff: finding the transaction that did it, and going back to just before."""

from __future__ import annotations

from collections import Counter

from lib.cluster import lsn_number
from lib.rows import assert_same_rows, read_tenant
from lib.school import School
from lib.sidecar import NOT_FOUND, USAGE, Sidecar
from lib.workload import Workload

PATIENT = "rede-00"


def culprit(sidecar: Sidecar) -> int:
    """A transaction with a mistake, by someone with a name, amid the work of others; returns its xid."""
    with sidecar.cluster.session(sidecar.database, autocommit=False) as cur:
        cur.execute("SELECT pgstrata.set_actor('suporte: chamado 4711')")
        cur.execute("DELETE FROM matriculas WHERE tenant_id = %s", (PATIENT,))
        cur.execute("UPDATE alunos SET nome = 'x', historico = NULL WHERE tenant_id = %s", (PATIENT,))
        cur.execute("SELECT pg_current_xact_id()::text")
        xid = int(cur.fetchone()[0])
        cur.connection.commit()
    return xid


def rows(sidecar: Sidecar, school: School) -> dict:
    with sidecar.cluster.session(sidecar.database) as cur:
        return read_tenant(cur, school.tables, PATIENT)


def test_history_finds_the_culprit_and_before_xid_undoes_exactly_that(serving: Sidecar, school: School) -> None:
    with Workload(serving.cluster, serving.database, school.tenants[1:], writers=4) as others:
        others.wait_commits(20)
        before = rows(serving, school)
        xid = culprit(serving)
        others.wait_commits(20)

        items = serving.ok("history", "-t", PATIENT, "--limit", "100000")["items"]
        largest, count = Counter(item["xid"] for item in items).most_common(1)[0]
        assert largest == xid and count >= len(before["public.alunos"]) + len(before["public.matriculas"]), items[:3]
        found = [item for item in items if item["xid"] == xid]
        assert {item["actor"] for item in found} == {"suporte: chamado 4711"}
        assert {(item["table"], item["op"]) for item in found} == {
            ("public.matriculas", "delete"), ("public.alunos", "update")}
        assert len({(item["commit_lsn"], item["commit_end_lsn"], item["commit_time"]) for item in found}) == 1
        assert lsn_number(found[0]["commit_lsn"]) < lsn_number(found[0]["commit_end_lsn"])

        serving.pitr(PATIENT, "--before-xid", str(xid))
        assert_same_rows(before, rows(serving, school), "just before the culprit")


def test_before_lsn_takes_the_culprits_commit_lsn_or_its_end(serving: Sidecar, school: School) -> None:
    before = rows(serving, school)
    culprit(serving)
    item = serving.ok("history", "-t", PATIENT, "--limit", "1")["items"][0]
    answers = [serving.ok("pitr", "-t", PATIENT, "--before-lsn", item[name], "--dry-run")
               for name in ("commit_lsn", "commit_end_lsn")]
    assert answers[0]["plan"] == answers[1]["plan"] and answers[0]["first_undone"]["xid"] == item["xid"], answers
    serving.pitr(PATIENT, "--before-lsn", item["commit_lsn"])
    assert_same_rows(before, rows(serving, school), "just before the culprit")


def test_history_of_one_row_tells_its_life_with_images(serving: Sidecar, school: School) -> None:
    with serving.cluster.session(serving.database) as cur:
        cur.execute("INSERT INTO avisos VALUES (42, %s, 'um')", (PATIENT,))
        cur.execute("UPDATE avisos SET texto = NULL WHERE id = 42")
        cur.execute("UPDATE avisos SET texto = 'três' WHERE id = 42")
        cur.execute("DELETE FROM avisos WHERE id = 42")
    items = serving.ok("history", "-t", PATIENT, "--table", "avisos", "--key", "42", "--ascending")["items"]
    assert [(item["op"], item["before"] and item["before"]["texto"], item["after"] and item["after"]["texto"])
            for item in items] == [("insert", None, "um"), ("update", "um", None), ("update", None, "três"),
                                   ("delete", "três", None)], items
    assert items[0]["before"] is None and items[3]["after"] is None
    assert all(item["key"] == {"id": "42"} and item["actor"] is None for item in items), items
    newest_first = serving.ok("history", "-t", PATIENT, "--table", "avisos", "--key", "42")["items"]
    assert newest_first == items[::-1]


def test_images_are_whole_although_large_values_were_left_out_of_the_stream(serving: Sidecar, school: School) -> None:
    number, text = serving.cluster.query(
        "SELECT numero, historico FROM alunos WHERE tenant_id = %s AND historico IS NOT NULL LIMIT 1",
        (PATIENT,), serving.database)[0]
    serving.cluster.execute("UPDATE alunos SET media = 1 WHERE tenant_id = %s AND numero = %s", (PATIENT, number),
                            serving.database)
    item = serving.ok("history", "-t", PATIENT, "--table", "alunos", "--key", f"{PATIENT},{number}")["items"][0]
    assert item["before"]["historico"] == item["after"]["historico"] == text
    assert item["after"]["media"] == "1.00"


def test_history_is_paged_without_loss(serving: Sidecar, school: School) -> None:
    with Workload(serving.cluster, serving.database, school.tenants, writers=4) as workload:
        workload.wait_commits(60)
    whole = serving.ok("history", "-t", PATIENT, "--limit", "100000")
    assert whole["next_cursor"] is None and len(whole["items"]) > 20
    paged, cursor = [], None
    while True:
        more = ("--cursor", cursor) if cursor else ()
        page = serving.ok("history", "-t", PATIENT, "--limit", "7", *more)
        assert len(page["items"]) <= 7
        paged += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == whole["items"]


def test_history_between_two_moments(serving: Sidecar, school: School) -> None:
    serving.cluster.execute("UPDATE avisos SET texto = 'antes'", database=serving.database)
    begin = serving.flush()["archived_lsn"]
    xid = culprit(serving)
    end = serving.flush()["archived_lsn"]
    serving.cluster.execute("UPDATE avisos SET texto = 'depois'", database=serving.database)
    items = serving.ok("history", "-t", PATIENT, "--from", begin, "--to", end, "--limit", "100000")["items"]
    assert {item["xid"] for item in items} == {xid}


def test_diff_tells_what_changed_between_two_moments(serving: Sidecar, school: School) -> None:
    begin = serving.flush()["archived_lsn"]
    with serving.cluster.session(serving.database) as cur:
        cur.execute("INSERT INTO avisos VALUES (42, %s, 'novo')", (PATIENT,))
        cur.execute("UPDATE avisos SET texto = 'passageiro' WHERE id = 42")
        cur.execute("UPDATE escolas SET nome = nome || '!' WHERE tenant_id = %s", (PATIENT,))
        cur.execute("DELETE FROM frequencias WHERE tenant_id = %s AND aluno = 1", (PATIENT,))
        cur.execute("INSERT INTO avisos VALUES (43, %s, 'nem visto')", (PATIENT,))
        cur.execute("DELETE FROM avisos WHERE id = 43")
        cur.execute("UPDATE avisos SET texto = 'de outro' WHERE tenant_id <> %s", (PATIENT,))
    end = serving.flush()["archived_lsn"]
    serving.cluster.execute("DELETE FROM matriculas", database=serving.database)
    answer = serving.ok("diff", "-t", PATIENT, "--from", begin, "--to", end)
    changed = {table["name"]: (table["inserted"], table["updated"], table["deleted"]) for table in answer["tables"]
               if table["inserted"] or table["updated"] or table["deleted"]}
    assert changed == {"public.avisos": (1, 0, 0), "public.escolas": (0, 3, 0), "public.frequencias": (0, 0, 1)}, answer
    [notice] = next(table for table in answer["tables"] if table["name"] == "public.avisos")["rows"]
    assert notice["op"] == "insert" and notice["after"]["texto"] == "passageiro", notice
    nothing = serving.ok("diff", "-t", PATIENT, "--from", begin, "--to", begin)
    assert nothing["inserted"] == nothing["updated"] == nothing["deleted"] == 0


def test_timeline_shows_bases_and_restore_points(serving: Sidecar, school: School) -> None:
    serving.ok("restore-point", "create", "antes da importação")
    serving.flush()
    items = serving.ok("timeline", "-t", PATIENT)["items"]
    assert sum(item["kind"] == "base" for item in items) >= len(school.tables)
    assert any(item["kind"] == "restore_point" and item["text"] == "antes da importação" for item in items), items
    listed = serving.ok("restore-point", "list")["items"]
    assert [item["name"] for item in listed] == ["antes da importação"], listed


def test_unknown_tenants_tables_and_lone_keys_are_told_apart(serving: Sidecar, school: School) -> None:
    assert "ninguém" in serving.refuses(NOT_FOUND, "history", "-t", "ninguém")["message"]
    assert "nenhuma" in serving.refuses(NOT_FOUND, "history", "-t", PATIENT, "--table", "nenhuma")["message"]
    assert "--table" in serving.refuses(USAGE, "history", "-t", PATIENT, "--key", "1")["message"]
