"""Restores in place to moments before the table's columns changed: values follow their column, by attnum."""

from __future__ import annotations

from typing import Any, Sequence

import pytest

from lib.cluster import Cluster
from lib.sidecar import REFUSED, Sidecar
from lib.story import Story
from lib.targets import Target

ITEMS = """
CREATE TYPE cor AS ENUM ('azul', 'verde');
CREATE TABLE itens (id int PRIMARY KEY, tenant_id text NOT NULL, nome varchar(20), preco int, quando date, c cor DEFAULT 'azul');
INSERT INTO itens SELECT i, CASE WHEN i < 6 THEN 'a' ELSE 'b' END, 'n' || i, i * 10, '2026-01-01', 'azul'
  FROM generate_series(1, 8) i;
"""
# After the change: what the accident does to tenant a. Rows 1, 2 stay as they were.
ACCIDENT = "UPDATE itens SET {column} = {value} WHERE id = 3; DELETE FROM itens WHERE id IN (4, 5)"


@pytest.fixture
def story(cluster: Cluster, database: str, sidecar: Sidecar) -> Story:
    return Story(cluster, database, sidecar)


def rows(story: Story, columns: str, tenant: str = "a", table: str = "itens") -> list[tuple]:
    return [tuple(row) for row in story.sidecar.cluster.query(
        f"SELECT {columns} FROM {table} WHERE tenant_id = %s ORDER BY id", (tenant,), story.sidecar.database)]


def change(story: Story, *transactions: str, schema: str = ITEMS) -> Target:
    """The moment before the changes, which are then covered again."""
    story.begin(schema)
    story.remember("then")
    for text in transactions:
        story.execute(text)
    story.sidecar.wait_ready()
    return story.moment("then").target


def back(story: Story, target: Target, tenant: str = "a", *words: str) -> Any:
    """Previews, restores that very plan, and shows that undoing brings back every row of before."""
    previewed = story.sidecar.pitr(tenant, *target.pitr_words(), "--dry-run", *words)
    answer = story.sidecar.pitr(tenant, *target.pitr_words(), "--plan", previewed["plan"], *words)
    assert answer["status"] == "completed" and answer["innocence"] == {"other_tenants_versions": 0}, answer
    assert answer["schema_changes"] == previewed["schema_changes"], answer
    return answer


def undone(story: Story, answer: Any, before: Sequence[tuple], columns: str = "*", table: str = "itens") -> None:
    story.sidecar.pitr("a", "--target-name", answer["restore_point"])
    assert rows(story, columns, table=table) == list(before)


def refused(story: Story, target: Target, *words: str) -> str:
    for dry in (["--dry-run"], []):
        error = story.sidecar.refuses(REFUSED, "pitr", "-t", "a", *target.pitr_words(), *words, *dry)
    return f"{error['code']}: {error['message']}"


def kinds(answer: Any) -> list[tuple]:
    return [(c["change"], c["column"]) for c in answer["schema_changes"]]


def test_an_added_column_keeps_its_values_and_gives_rows_put_back_its_default(story: Story) -> None:
    target = change(story, "ALTER TABLE itens ADD estado text NOT NULL DEFAULT 'novo'",
                    "UPDATE itens SET estado = 'visto' WHERE id IN (2, 3)", ACCIDENT.format(column="preco", value="0"))
    before = rows(story, "*")
    answer = back(story, target)
    assert kinds(answer) == [("added", "estado")]
    assert (answer["inserted"], answer["updated"], answer["deleted"]) == (2, 1, 0)
    assert rows(story, "id, nome, preco, estado") == [
        (1, "n1", 10, "novo"), (2, "n2", 20, "visto"), (3, "n3", 30, "visto"), (4, "n4", 40, "novo"),
        (5, "n5", 50, "novo")]
    put_back = [s for s in answer["samples"] if s["op"] == "insert"]
    assert put_back and all("estado" not in s["after"] for s in put_back), put_back
    assert [s["after"]["estado"] for s in answer["samples"] if s["op"] == "update"] == ["visto"]
    undone(story, answer, before)


def test_an_added_column_keeps_its_values_in_rows_that_must_be_replaced(story: Story) -> None:
    """A unique value that two rows swapped: they are deleted and inserted, with what came since."""
    target = change(story, "ALTER TABLE itens ADD estado text", "UPDATE itens SET estado = 'e' || id",
                    "UPDATE itens SET nome = 'x' WHERE id = 1; UPDATE itens SET nome = 'n1' WHERE id = 2;"
                    " UPDATE itens SET nome = 'n2' WHERE id = 1",
                    schema=ITEMS + "ALTER TABLE itens ADD UNIQUE (nome);")
    before = rows(story, "*")
    answer = back(story, target)
    assert rows(story, "id, nome, estado")[:2] == [(1, "n1", "e1"), (2, "n2", "e2")]
    undone(story, answer, before)


def test_a_mandatory_column_without_a_default_refuses_rows_put_back(story: Story) -> None:
    target = change(story, "ALTER TABLE itens ADD estado text", "UPDATE itens SET estado = 'x'",
                    "ALTER TABLE itens ALTER estado SET NOT NULL", "DELETE FROM itens WHERE id = 4")
    before = rows(story, "*")
    error = story.sidecar.refuses(REFUSED, "pitr", "-t", "a", *target.pitr_words())
    assert error["code"] == "constraint" and "estado" in error["message"], error
    assert rows(story, "*") == before


def test_a_rule_that_came_later_refuses_rows_that_break_it(story: Story) -> None:
    target = change(story, "UPDATE itens SET preco = preco + 100",
                    "ALTER TABLE itens ADD CHECK (preco > 100)")
    before = rows(story, "*")
    error = story.sidecar.refuses(REFUSED, "pitr", "-t", "a", *target.pitr_words())
    assert error["code"] == "constraint" and "itens_preco_check" in error["message"], error
    assert rows(story, "*") == before


def test_a_dropped_column_is_left_out_and_said_so(story: Story) -> None:
    target = change(story, "ALTER TABLE itens DROP quando", ACCIDENT.format(column="preco", value="0"))
    before = rows(story, "*")
    answer = back(story, target)
    assert kinds(answer) == [("dropped", "quando")]
    assert rows(story, "id, nome, preco") == [(i, f"n{i}", i * 10) for i in range(1, 6)]
    undone(story, answer, before)


def test_a_column_made_again_under_its_name_is_another_one(story: Story) -> None:
    target = change(story, "ALTER TABLE itens DROP preco, ADD preco int DEFAULT 7", "UPDATE itens SET preco = 8 WHERE id = 1",
                    "DELETE FROM itens WHERE id = 4")
    answer = back(story, target)
    assert sorted(kinds(answer)) == [("added", "preco"), ("dropped", "preco")]
    assert rows(story, "id, preco") == [(1, 8), (2, 7), (3, 7), (4, 7), (5, 7)]


def test_a_renamed_column_and_a_renamed_table_are_the_same(story: Story) -> None:
    target = change(story, "ALTER TABLE itens RENAME nome TO titulo", "ALTER TABLE itens RENAME TO produtos",
                    "CREATE SCHEMA loja", "ALTER TABLE produtos SET SCHEMA loja",
                    "UPDATE loja.produtos SET titulo = 'x' WHERE id = 3; DELETE FROM loja.produtos WHERE id = 4")
    before = rows(story, "*", table="loja.produtos")
    answer = back(story, target)
    assert kinds(answer) == [("renamed", "titulo")]
    assert rows(story, "id, titulo", table="loja.produtos") == [(i, f"n{i}") for i in range(1, 6)]
    undone(story, answer, before, table="loja.produtos")


def test_columns_that_swapped_their_names_do_not_swap_their_values(story: Story) -> None:
    target = change(story, "ALTER TABLE itens ADD outro varchar(20); UPDATE itens SET outro = 'o' || id")
    story.remember("both")
    target = story.moment("both").target
    story.execute("ALTER TABLE itens RENAME nome TO x; ALTER TABLE itens RENAME outro TO nome; ALTER TABLE itens RENAME x TO outro")
    story.execute("DELETE FROM itens WHERE id = 4")
    story.sidecar.wait_ready()
    answer = back(story, target)
    assert answer["inserted"] == 1 and answer["updated"] == 0, answer
    assert rows(story, "id, nome, outro")[3] == (4, "o4", "n4")


@pytest.mark.parametrize("ddl, value, expected", [
    ("ALTER preco TYPE bigint", "0", ("preco", 40)),
    ("ALTER preco TYPE numeric(12, 2)", "0", ("preco::text", "40.00")),
    ("ALTER preco TYPE text", "'0'", ("preco", "40")),
    ("ALTER nome TYPE text", "'x'", ("nome", "n4")),
    ("ALTER nome TYPE varchar(40)", "'x'", ("nome", "n4")),
    ("ALTER nome TYPE varchar(4)", "'x'", ("nome", "n4")),
    ("ALTER quando TYPE timestamp", "'2020-01-01'", ("quando::text", "2026-01-01 00:00:00")),
])
def test_values_follow_a_column_to_its_new_type(story: Story, ddl: str, value: str, expected: tuple) -> None:
    column = ddl.split()[1]
    target = change(story, f"ALTER TABLE itens {ddl}", ACCIDENT.format(column=column, value=value))
    before = rows(story, "*")
    answer = back(story, target)
    assert kinds(answer) == [("converted", column)]
    assert (answer["inserted"], answer["updated"], answer["deleted"]) == (2, 1, 0), answer
    assert rows(story, f"id, {expected[0]}")[3] == (4, expected[1])
    undone(story, answer, before)


def test_a_key_that_became_a_bigint(story: Story) -> None:
    target = change(story, "ALTER TABLE itens ALTER id TYPE bigint", ACCIDENT.format(column="preco", value="0"))
    before = rows(story, "*")
    answer = back(story, target)
    assert rows(story, "id, preco") == [(i, i * 10) for i in range(1, 6)]
    undone(story, answer, before)


@pytest.mark.parametrize("ddl, words", [
    ("ALTER preco TYPE bigint USING preco * 100", "not converted as PostgreSQL does by itself"),
    ("ALTER nome TYPE int USING length(nome)", "cannot be converted"),
    ("ALTER quando TYPE timestamptz", "cannot be converted"),
])
def test_values_that_were_converted_in_another_way_are_refused(story: Story, ddl: str, words: str) -> None:
    target = change(story, f"ALTER TABLE itens {ddl}", "DELETE FROM itens WHERE id = 4")
    before = rows(story, "*")
    error = refused(story, target)
    assert error.startswith("shape_changed: ") and words in error, error
    assert rows(story, "*") == before
    story.sidecar.ok("pitr", "-t", "a", *target.pitr_words(), "--to-schema", "ao_lado")
    assert rows(story, "id, preco", table="ao_lado.itens") == [(i, i * 10) for i in range(1, 6)]


def test_labels_of_an_enum_that_were_renamed_do_not_fit(story: Story) -> None:
    target = change(story, "ALTER TYPE cor RENAME VALUE 'azul' TO 'anil'", "DELETE FROM itens WHERE id = 4")
    before = rows(story, "*")
    error = refused(story, target)
    assert error.startswith("values_do_not_fit: ") and "azul" in error, error
    assert rows(story, "*") == before


def test_another_key_of_the_same_columns(story: Story) -> None:
    target = change(story, "ALTER TABLE itens DROP CONSTRAINT itens_pkey; ALTER TABLE itens ADD PRIMARY KEY (tenant_id, id)",
                    ACCIDENT.format(column="preco", value="0"), "UPDATE itens SET id = 40 WHERE id = 2")
    before = rows(story, "*")
    answer = back(story, target)
    assert kinds(answer) == [("key", None)]
    assert rows(story, "id, preco") == [(i, i * 10) for i in range(1, 6)]
    undone(story, answer, before)


def test_rows_that_the_key_of_now_does_not_tell_apart_are_refused(story: Story) -> None:
    target = change(story, "UPDATE itens SET nome = 'nome ' || id",
                    "ALTER TABLE itens ALTER nome SET NOT NULL, DROP CONSTRAINT itens_pkey, ADD PRIMARY KEY (nome)",
                    schema=ITEMS + "UPDATE itens SET nome = 'o mesmo';")
    before = rows(story, "*")
    error = refused(story, target)
    assert error.startswith("shape_changed: ") and "the same key" in error, error
    assert rows(story, "*") == before


def test_a_key_column_that_came_later_is_refused(story: Story) -> None:
    target = change(story, "ALTER TABLE itens ADD uid uuid NOT NULL DEFAULT gen_random_uuid()",
                    "ALTER TABLE itens DROP CONSTRAINT itens_pkey, ADD PRIMARY KEY (uid)")
    error = refused(story, target)
    assert error.startswith("shape_changed: ") and "uid" in error, error


def test_another_tenant_column_is_refused(story: Story) -> None:
    target = change(story, "ALTER TABLE itens RENAME tenant_id TO antigo; ALTER TABLE itens ADD tenant_id text;"
                           " UPDATE itens SET tenant_id = antigo")
    error = refused(story, target)
    assert error.startswith("shape_changed: ") and "tenant" in error, error


def test_a_stored_column_that_was_generated_is_refused(story: Story) -> None:
    target = change(story, "ALTER TABLE itens ALTER dobro DROP EXPRESSION", "DELETE FROM itens WHERE id = 4",
                    schema=ITEMS + "ALTER TABLE itens ADD dobro int GENERATED ALWAYS AS (preco * 2) STORED;")
    error = refused(story, target)
    assert error.startswith("shape_changed: ") and "generated" in error, error


def test_a_generated_column_that_came_later_is_worked_out(story: Story) -> None:
    target = change(story, "ALTER TABLE itens ADD dobro int GENERATED ALWAYS AS (preco * 2) STORED",
                    ACCIDENT.format(column="preco", value="0"))
    back(story, target)
    assert rows(story, "id, dobro") == [(i, i * 20) for i in range(1, 6)]


def test_a_foreign_key_over_a_column_that_came_later_is_checked(story: Story) -> None:
    """The default of a row put back refers to a row that is gone."""
    target = change(story, "CREATE TABLE cores (id int PRIMARY KEY); INSERT INTO cores VALUES (1), (2)",
                    "ALTER TABLE itens ADD cor_id int DEFAULT 1 REFERENCES cores", "DELETE FROM itens WHERE id = 4")
    answer = back(story, target)
    assert answer["inserted"] == 1 and rows(story, "id, cor_id")[3] == (4, 1)
    story.execute("DELETE FROM itens WHERE id = 4; UPDATE itens SET cor_id = 2; DELETE FROM cores WHERE id = 1")
    error = story.sidecar.refuses(REFUSED, "pitr", "-t", "a", *target.pitr_words())
    assert error["code"] == "foreign_key", error


def test_a_chain_of_changes(story: Story) -> None:
    target = change(story, "ALTER TABLE itens ADD a1 int", "ALTER TABLE itens RENAME preco TO valor",
                    "UPDATE itens SET valor = valor", "ALTER TABLE itens ALTER valor TYPE bigint",
                    "ALTER TABLE itens DROP quando", "ALTER TABLE itens RENAME a1 TO preco",
                    "UPDATE itens SET valor = 0 WHERE id = 3; DELETE FROM itens WHERE id IN (4, 5)")
    before = rows(story, "*")
    answer = back(story, target)
    assert rows(story, "id, nome, valor, preco") == [(i, f"n{i}", i * 10, None) for i in range(1, 6)]
    undone(story, answer, before)


def test_without_event_triggers_the_polls_tell(story: Story) -> None:
    story.begin(ITEMS)
    story.execute("DROP EVENT TRIGGER IF EXISTS pgstrata_ddl; DROP EVENT TRIGGER IF EXISTS pgstrata_drop;"
                  " DO $$ DECLARE t text; BEGIN FOR t IN SELECT evtname FROM pg_event_trigger LOOP"
                  " EXECUTE format('ALTER EVENT TRIGGER %I DISABLE', t); END LOOP; END $$")
    story.remember("then")
    target = story.moment("then").target
    story.execute("UPDATE itens SET preco = preco")
    story.execute("ALTER TABLE itens ADD estado text DEFAULT 'novo', DROP quando")
    story.execute("UPDATE itens SET preco = 0 WHERE id = 3; DELETE FROM itens WHERE id IN (4, 5)")
    story.sidecar.ok("base")
    story.sidecar.wait_ready()
    answer = back(story, target)
    assert sorted(kinds(answer)) == [("added", "estado"), ("dropped", "quando")]
    assert rows(story, "id, preco, estado") == [(i, i * 10, "novo") for i in range(1, 6)]
