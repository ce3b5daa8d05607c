"""Every kind of change, one by one: what the archive says of each moment, and the way back to it."""

from __future__ import annotations

import pytest

from lib.cluster import Cluster
from lib.sidecar import Sidecar
from lib.story import Story


@pytest.fixture
def story(cluster: Cluster, database: str, sidecar: Sidecar) -> Story:
    return Story(cluster, database, sidecar)


# ---- large values that the stream leaves out ----

DOCS = """
CREATE TABLE docs (id int PRIMARY KEY, tenant_id text NOT NULL, n int NOT NULL DEFAULT 0, body text, other text);
ALTER TABLE docs ALTER body SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
INSERT INTO docs SELECT i, 'a', 0, repeat('corpo ' || i, 1000), repeat('outro ' || i, 800) FROM generate_series(1, 4) i;
"""


def test_large_values_are_carried_over_long_chains(story: Story) -> None:
    story.begin(DOCS)
    story.then("chain", *["UPDATE docs SET n = n + 1"] * 60)
    story.then("one of them", "UPDATE docs SET body = repeat('novo', 2000) WHERE id = 1")
    story.then("longer", *["UPDATE docs SET n = n + 1"] * 60)
    story.then("away", "UPDATE docs SET other = NULL WHERE id = 2", "UPDATE docs SET n = n + 1")
    story.check()
    story.back_to_each()


def test_large_values_are_carried_across_a_base(story: Story) -> None:
    story.begin(DOCS)
    story.then("before", "UPDATE docs SET body = repeat('antes', 2000) WHERE id = 1", "UPDATE docs SET n = 1")
    story.base()
    story.then("after", *["UPDATE docs SET n = n + 1"] * 5)
    story.base()
    story.then("later", *["UPDATE docs SET n = n + 1"] * 5)
    story.check()
    story.back_to_each()


def test_large_values_are_carried_across_a_change_of_the_key(story: Story) -> None:
    story.begin(DOCS)
    story.then("key", "UPDATE docs SET id = id + 100")
    story.then("chain", *["UPDATE docs SET n = n + 1"] * 3)
    story.then("again", *["UPDATE docs SET id = id + 1000"] * 3)
    story.then("swap", "UPDATE docs SET id = -1 WHERE id = 3101; UPDATE docs SET id = 3101 WHERE id = 3102;"
                       " UPDATE docs SET id = 3102 WHERE id = -1")
    story.then("back", "UPDATE docs SET id = id - 3100")
    story.then("reused", "DELETE FROM docs WHERE id = 1; UPDATE docs SET id = 1, n = 7 WHERE id = 4")
    story.check()
    story.back_to_each()


def test_large_values_are_carried_across_a_move_between_tenants(story: Story) -> None:
    story.begin(DOCS)
    story.then("moved", "UPDATE docs SET tenant_id = 'b' WHERE id IN (1, 2)")
    story.then("chain", *["UPDATE docs SET n = n + 1"] * 3)
    story.base()
    story.then("and back", "UPDATE docs SET tenant_id = 'a' WHERE id = 1")
    story.then("to and fro in one", "UPDATE docs SET tenant_id = 'b' WHERE id = 3;"
                                    " UPDATE docs SET n = 70 WHERE id = 3; UPDATE docs SET tenant_id = 'a' WHERE id = 3")
    story.then("with its key", "UPDATE docs SET tenant_id = 'b', id = 44 WHERE id = 4")
    story.then("end", "UPDATE docs SET n = n + 1")
    story.check()


def test_large_values_are_carried_across_a_move_where_the_tenant_is_in_the_key(story: Story) -> None:
    story.begin(DOCS.replace("id int PRIMARY KEY, tenant_id text NOT NULL", "id int, tenant_id text")
                .replace("other text)", "other text, PRIMARY KEY (tenant_id, id))"))
    story.then("moved", "UPDATE docs SET tenant_id = 'b' WHERE id IN (1, 2)")
    story.then("chain", *["UPDATE docs SET n = n + 1"] * 3)
    story.base()
    story.then("and back", "UPDATE docs SET tenant_id = 'a', id = 11 WHERE id = 1")
    story.then("end", "UPDATE docs SET n = n + 1")
    story.check()


# ---- deletes and moves ----

ROWS = "CREATE TABLE itens (id int PRIMARY KEY, tenant_id text, texto text);" \
       " INSERT INTO itens SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, 'texto ' || i FROM generate_series(1, 20) i;"


def test_deletes_that_do_not_name_their_tenant_find_it(story: Story) -> None:
    story.begin(ROWS)
    story.then("deleted", "DELETE FROM itens WHERE id <= 6")
    story.then("the other's now", "INSERT INTO itens VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'b', 'z')")
    story.base()
    story.then("again", "DELETE FROM itens WHERE id IN (1, 2, 8)", "INSERT INTO itens VALUES (1, 'b', 'x')")
    story.then("in one", "DELETE FROM itens WHERE id = 10; INSERT INTO itens VALUES (10, 'b', 'neu');"
                         " DELETE FROM itens WHERE id = 10; INSERT INTO itens VALUES (10, 'a', 'alt')")
    story.check()
    story.then("apart", "DELETE FROM itens WHERE id < 100", "INSERT INTO itens VALUES (500, 'a', 'x'), (501, 'b', 'y')")
    story.back_to("again")


def test_rows_that_move_between_tenants(story: Story) -> None:
    story.begin(ROWS + """
        CREATE TABLE contas (id int PRIMARY KEY, tenant_id text, valor int);
        CREATE FUNCTION muda() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN NEW.tenant_id := CASE WHEN NEW.valor < 0 THEN 'b' ELSE NEW.tenant_id END; RETURN NEW; END$$;
        CREATE TRIGGER muda BEFORE INSERT OR UPDATE ON contas FOR EACH ROW EXECUTE FUNCTION muda();
        INSERT INTO contas SELECT i, 'a', i FROM generate_series(1, 6) i;""")
    story.then("all columns, as an ORM does", "UPDATE itens SET id = id, tenant_id = 'a', texto = texto WHERE id = 1")
    story.then("no move", "UPDATE itens SET id = id, tenant_id = tenant_id, texto = 'neu' WHERE id = 1")
    story.then("by a trigger", "UPDATE contas SET valor = -valor WHERE id <= 3")
    story.then("to nobody", "UPDATE itens SET tenant_id = NULL WHERE id = 2")
    story.then("from nobody", "UPDATE itens SET tenant_id = 'b' WHERE id = 2")
    story.then("with the key", "UPDATE itens SET tenant_id = 'b', id = 104 WHERE id = 4")
    story.then("gone", "DELETE FROM itens WHERE id IN (1, 2, 104)")
    story.check()


# ---- TRUNCATE ----

def test_truncates_of_several_tables_with_inserts_after_them(story: Story) -> None:
    story.begin(ROWS + """
        CREATE TABLE filhos (id int PRIMARY KEY, tenant_id text, item int REFERENCES itens);
        INSERT INTO filhos SELECT i, 'a', i FROM generate_series(2, 6, 2) i;""")
    story.then("emptied", "TRUNCATE itens CASCADE")
    story.then("filled", "INSERT INTO itens VALUES (1, 'a', 'um'), (2, 'b', 'dois')", "INSERT INTO filhos VALUES (1, 'a', 1)")
    story.then("in one", "BEGIN; INSERT INTO itens VALUES (3, 'a', 'some'); TRUNCATE itens, filhos;"
                         " INSERT INTO itens VALUES (3, 'a', 'fica'), (2, 'a', 'agora de a'); COMMIT")
    story.base()
    story.then("twice", "BEGIN; TRUNCATE filhos; INSERT INTO filhos VALUES (7, 'a', 3); TRUNCATE filhos;"
                        " INSERT INTO filhos VALUES (8, 'a', 3); COMMIT")
    story.then("rolled back", "BEGIN; TRUNCATE itens CASCADE; ROLLBACK")
    story.then("end", "UPDATE itens SET texto = texto || '!'")
    story.check()
    story.back_to_each()


# ---- identities ----

def test_identity_by_another_unique_index(story: Story) -> None:
    story.begin("""
        CREATE TABLE semchave (codigo int NOT NULL, tenant_id text NOT NULL, texto text);
        CREATE UNIQUE INDEX semchave_id ON semchave (tenant_id, codigo);
        ALTER TABLE semchave REPLICA IDENTITY USING INDEX semchave_id;
        INSERT INTO semchave SELECT i, 'a', 't' || i FROM generate_series(1, 9) i;""")
    story.then("changed", "UPDATE semchave SET texto = 'x' WHERE codigo < 4", "DELETE FROM semchave WHERE codigo = 5",
               "UPDATE semchave SET codigo = codigo + 10 WHERE codigo = 6")
    story.check()
    story.back_to_each()


def test_full_identity_with_a_key(story: Story) -> None:
    story.begin(DOCS + "ALTER TABLE docs REPLICA IDENTITY FULL;")
    story.then("changed", "UPDATE docs SET n = 1", "DELETE FROM docs WHERE id = 2")
    story.then("moved", "UPDATE docs SET tenant_id = 'b' WHERE id = 1", "UPDATE docs SET id = 33 WHERE id = 3")
    story.check()


def test_generated_and_identity_columns(story: Story) -> None:
    story.begin("""
        CREATE TABLE gerada (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id text NOT NULL, a int,
                             dobro int GENERATED ALWAYS AS (a * 2) STORED, b int,
                             nome text GENERATED ALWAYS AS (upper(tenant_id)) STORED);
        INSERT INTO gerada (tenant_id, a, b) SELECT 'a', i, -i FROM generate_series(1, 5) i;""")
    story.then("changed", "UPDATE gerada SET a = a + 1", "DELETE FROM gerada WHERE id = 2",
               "INSERT INTO gerada (tenant_id, a, b) VALUES ('a', 100, 100), ('b', 1, 1)")
    story.check()
    story.back_to_each()


def test_partial_updates_of_rows_with_null_and_empty_keys(story: Story) -> None:
    story.begin("""
        CREATE TABLE vazios (tenant_id text NOT NULL, chave text NOT NULL, a text, b text DEFAULT '', PRIMARY KEY (tenant_id, chave));
        INSERT INTO vazios VALUES ('a', '', NULL, ''), ('a', ' ', '', NULL), ('b', '', 'x', 'y'), ('a', E'\\t', E'\\\\N', E'\\n');""")
    story.then("swapped", "UPDATE vazios SET a = b, b = a")
    story.then("keys", "UPDATE vazios SET chave = '_' WHERE chave = ''", "UPDATE vazios SET chave = '' WHERE chave = ' '")
    story.check()
    story.back_to_each()


def test_names_that_need_quoting(story: Story) -> None:
    story.begin("""
        CREATE SCHEMA "Esquema ""x"" π";
        CREATE TABLE "Esquema ""x"" π"."Tabela; DROP" ("select" int PRIMARY KEY, tenant_id text, "çà é" text, "a""b" text, " " text);
        INSERT INTO "Esquema ""x"" π"."Tabela; DROP" VALUES (1, 'a', 'é', '"', ''''), (2, 'a', '😀', E'\\\\', '%s $1');""")
    story.then("changed", """UPDATE "Esquema ""x"" π"."Tabela; DROP" SET "çà é" = "çà é" || '!'""",
               """DELETE FROM "Esquema ""x"" π"."Tabela; DROP" WHERE "select" = 2""")
    story.check()
    story.back_to_each()


# ---- types ----

TYPES = {
    "smallint": ("-32768", "32767"), "int": ("-2147483648", "2147483647"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "numeric": ("NaN", "Infinity", "-Infinity", "1.0", "1.00", "-0.000", "1e-300"),
    "numeric(12,4)": ("0.0001", "-99999999.9999"),
    "real": ("NaN", "Infinity", "-Infinity", "-0", "1.17549435e-38", "3.4028235e38", "0.1"),
    "double precision": ("NaN", "-Infinity", "-0", "5e-324", "1.7976931348623157e308", "0.1", "0.30000000000000004"),
    "boolean": ("t", "f"), "char(5)": ("", "a", "é    "), "varchar(5)": ("", "a  ", "ééééé"),
    "text": ("", " ", "\u00e9\U0001F600\u200f", "\\N", "\\.", "a\tb\nc\rd\\e", "\x01\x7f"),
    '"char"': ("", "a"), "name": ("", "nome"), "bytea": ("", r"\x00ff5c27"),
    "date": ("0001-01-01 BC", "4713-11-24 BC", "infinity", "-infinity", "5874897-12-31", "2000-02-29"),
    "time": ("00:00:00", "24:00:00", "23:59:59.999999"), "timetz": ("00:00:00+15:59", "24:00:00-15:59"),
    "timestamp": ("infinity", "-infinity", "4713-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999", "0001-01-01 BC"),
    "timestamptz": ("infinity", "-infinity", "2026-03-29 02:30:00+01", "0044-03-15 12:00:00.000001+00 BC"),
    "interval": ("-178000000 years", "1 mon -1 day +00:00:00.000001", "-1 year 2 mons -3 days +04:05:06.7", "0"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "json": ('{"a":1, "a":2 , "b" : [1,2]}', "null", '""', '"\\u00e9"'), "jsonb": ('{"a": 1e2, "b": [null]}', "null"),
    "xml": ("<a b='c'>d</a>", "texto"), "inet": ("::ffff:1.2.3.4/128", "10.1.2.3/8", "fe80::1"), "cidr": ("10.0.0.0/8", "::/0"),
    "macaddr": ("08:00:2b:01:02:03",), "macaddr8": ("08:00:2b:01:02:03:04:05",), "bit(3)": ("101",), "varbit": ("", "10101"),
    "money": ("-92233720368547758.08", "0.01"), "oid": ("0", "4294967295"), "xid": ("3",), "tid": ("(0,1)",), "pg_lsn": ("16/B374D848",),
    "point": ("(-0,Infinity)", "(1.5,NaN)"), "line": ("{1,2,3}",), "lseg": ("[(0,0),(1,1)]",), "box": ("(1,1),(0,0)",),
    "path": ("((0,0),(1,1))", "[(0,0),(1,1)]"), "polygon": ("((0,0),(1,1),(1,0))",), "circle": ("<(0,0),0.1>",),
    "tsvector": ("'a':1A 'b':2,3B 'it''s'",), "tsquery": ("'a' & !'b' | 'c':*",), "jsonpath": ('$."a"[*]?(@ > 1)',),
    "regclass": ("pg_class",), "int[]": ("{}", "{NULL,1,-2}", "{{1,2},{3,4}}", "[-1:1]={1,2,3}"),
    "text[]": ('{"",NULL,"NULL","a,b","{}","\\\\","\\""}',), "numeric[]": ("{NaN,1.0,1.00}",),
    "int4range": ("empty", "(,)", "[1,5)"), "numrange": ("[1.0,1.00]", "(,NaN)"), "tstzrange": ('["2026-01-01 00:00:00+00",infinity)',),
    "int4multirange": ("{}", "{[1,3),[5,7)}"), "datemultirange": ("{[2026-01-01,2026-02-01)}",),
    "cor": ("verde", "azul claro"), "cor[]": ('{verde,"azul claro",NULL}',), "cep": ("01310-100",), "cep[]": ('{"01310-100",NULL}',),
    "endereco": ('("Rua ""x"", 1",,01310-100)', "(,,)"), "endereco[]": ('{"(a,{verde},)",NULL}',), "faixa": ("[a,b)", "empty"),
    "faixas": ("{[a,b),[c,d)}",),
}

TYPE_SCHEMA = """
CREATE TYPE cor AS ENUM ('verde', 'azul claro');
CREATE DOMAIN cep AS text CHECK (VALUE ~ '^[0-9]{5}-[0-9]{3}$');
CREATE TYPE endereco AS (rua text, cores cor[], cep cep);
CREATE TYPE faixa AS RANGE (subtype = text, multirange_type_name = faixas);
"""


def type_table(types: dict[str, tuple[str, ...]], tenant: str = "a") -> tuple[str, str]:
    """The table with a column of each type, and its rows: row 0 is all NULL, row n has each type's n-th value."""
    quoted = [[None if n == 0 else "'" + values[(n - 1) % len(values)].replace("'", "''") + "'" for values in types.values()]
              for n in range(1 + max(map(len, types.values())))]
    columns = ", ".join(f"c{number} {name}" for number, name in enumerate(types))
    rows = ", ".join(f"({n}, '{tenant}', {', '.join(value or 'NULL' for value in row)})" for n, row in enumerate(quoted))
    return (f"CREATE TABLE tipos (id int PRIMARY KEY, tenant_id text NOT NULL, nota text, {columns});",
            f"INSERT INTO tipos (id, tenant_id, {', '.join(f'c{number}' for number in range(len(types)))}) VALUES {rows};")


def tell_types(story: Story, schema: str, types: dict[str, tuple[str, ...]]) -> None:
    """The values come through the base, through the stream, through an update that leaves them alone, and back."""
    table, rows = type_table(types)
    story.begin(schema + table + rows)
    story.then("touched", "UPDATE tipos SET nota = 'x' WHERE id % 2 = 0")
    story.then("deleted", "DELETE FROM tipos")
    story.then("streamed", rows)
    shifted = ", ".join(f"c{number} = (SELECT c{number} FROM tipos o WHERE o.id = t.id - 1)" for number in range(len(types)))
    story.then("shifted", f"UPDATE tipos t SET {shifted} WHERE id > 0")
    story.check()
    story.back_to_each()


def test_every_built_in_type_with_its_edges(story: Story) -> None:
    tell_types(story, TYPE_SCHEMA, TYPES)


def test_types_of_contrib(story: Story) -> None:
    tell_types(story, "CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree;", {
        "citext": ("ABC", "abc", ""), "hstore": ('"a"=>"1", "b"=>NULL', "", '"\\""=>"\\\\"'),
        "ltree": ("a.b.c", ""), "lquery": ("*.a.*{1,2}",), "citext[]": ("{A,b}",),
    })


def test_keys_whose_equal_values_have_several_texts(story: Story) -> None:
    """1.0 and 1.00 are one key to PostgreSQL and two texts to the archive."""
    story.begin("""
        CREATE EXTENSION citext;
        CREATE TABLE decimais (n numeric PRIMARY KEY, tenant_id text, texto text);
        CREATE TABLE palavras (p citext PRIMARY KEY, tenant_id text, texto text);
        INSERT INTO decimais VALUES (1.0, 'a', 'um'), (2, 'a', 'dois'), ('NaN', 'b', 'nada');
        INSERT INTO palavras VALUES ('Um', 'a', '1'), ('dois', 'a', '2');""")
    story.then("spelled anew", "UPDATE decimais SET n = 1.00 WHERE n = 1", "UPDATE palavras SET p = 'UM' WHERE p = 'um'")
    story.then("changed", "UPDATE decimais SET texto = 'x' WHERE n = 1", "DELETE FROM palavras WHERE p = 'um'")
    story.then("again", "INSERT INTO palavras VALUES ('uM', 'a', 'neu')", "UPDATE decimais SET n = 2.0 WHERE n = 2")
    story.then("gone", "DELETE FROM decimais WHERE n < 3", "INSERT INTO decimais VALUES (2.000, 'a', 'y')")
    story.check()
    story.back_to_each()


def test_numbers_of_131072_digits(story: Story) -> None:
    story.begin("CREATE TABLE longos (id int PRIMARY KEY, tenant_id text, n numeric);"
                " INSERT INTO longos VALUES (1, 'a', (repeat('9', 131072) || '.' || repeat('1', 16383))::numeric);")
    story.then("streamed", "INSERT INTO longos SELECT 2, 'a', -n FROM longos", "UPDATE longos SET n = 0 WHERE id = 1")
    story.check()
    story.back_to_each()


# ---- transactions ----

def test_two_phase_commits(story: Story) -> None:
    story.begin(ROWS)
    story.execute("BEGIN; UPDATE itens SET texto = 'preparado' WHERE id <= 4; PREPARE TRANSACTION 'um'")
    story.then("prepared", "UPDATE itens SET texto = 'livre' WHERE id > 10")
    story.then("committed", "COMMIT PREPARED 'um'")
    story.execute("BEGIN; DELETE FROM itens; PREPARE TRANSACTION 'dois'")
    story.then("rolled back", "ROLLBACK PREPARED 'dois'")
    story.then("end", "UPDATE itens SET texto = 'fim'")
    story.check()
    story.back_to_each()


def test_subtransactions(story: Story) -> None:
    story.begin(ROWS)
    story.then("mixed", """BEGIN; UPDATE itens SET texto = 'fica' WHERE id = 1; SAVEPOINT s; DELETE FROM itens; SAVEPOINT t;
        INSERT INTO itens VALUES (100, 'a', 'some'); ROLLBACK TO s; INSERT INTO itens VALUES (101, 'a', 'fica'); SAVEPOINT u;
        UPDATE itens SET texto = 'fica também' WHERE id = 2; RELEASE u; COMMIT""")
    story.then("many", "DO $$BEGIN FOR i IN 1..300 LOOP BEGIN INSERT INTO itens VALUES (1000 + i, 'a', 'x');"
                       " IF i % 3 = 0 THEN RAISE 'não'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END$$")
    story.then("nothing", "BEGIN; DELETE FROM itens; ROLLBACK")
    story.check()
    story.back_to_each()


def test_a_large_transaction_that_is_rolled_back_leaves_nothing(story: Story) -> None:
    story.begin(ROWS)
    story.then("nothing", "BEGIN; INSERT INTO itens SELECT 1000 + i, 'a', repeat('x', 200) FROM generate_series(1, 60000) i; ROLLBACK")
    story.then("end", "UPDATE itens SET texto = 'fim'")
    story.check()


# ---- tables that come and go ----

def test_tables_with_rows_from_the_transaction_that_makes_them(story: Story) -> None:
    story.begin(ROWS)
    story.then("made", "BEGIN; CREATE TABLE nova (id int PRIMARY KEY, tenant_id text); INSERT INTO nova VALUES (1, 'a');"
                       " INSERT INTO nova VALUES (2, 'b'); COMMIT")
    story.then("changed", "UPDATE nova SET id = id + 10", "INSERT INTO nova VALUES (3, 'a')")
    story.check()
    story.back_to_each()


def test_a_table_made_from_a_query_is_covered_from_its_key_on(story: Story) -> None:
    """CREATE TABLE AS has no key; the rows come with the base that its primary key brings."""
    story.begin(ROWS)
    story.execute("CREATE TABLE copia AS SELECT * FROM itens")
    story.execute("ALTER TABLE copia ADD PRIMARY KEY (id)")
    story.sidecar.wait_ready()
    story.then("covered", "UPDATE copia SET texto = 'depois' WHERE id < 5")
    story.then("end", "DELETE FROM copia WHERE id > 15")
    story.check("covered", "end")
    story.back_to("covered")


def test_partitions_come_and_go(story: Story) -> None:
    story.begin("""
        CREATE TABLE medidas (id int, dia date, tenant_id text, v int, PRIMARY KEY (id, dia)) PARTITION BY RANGE (dia);
        CREATE TABLE medidas_1 PARTITION OF medidas FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE medidas_x PARTITION OF medidas DEFAULT;
        INSERT INTO medidas SELECT i, date '2026-01-01' + i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, i
            FROM generate_series(0, 40) i;""")
    story.then("changed", "UPDATE medidas SET v = -v", "UPDATE medidas SET dia = dia + 20 WHERE id = 20")
    story.then("a new one", "CREATE TABLE medidas_3 PARTITION OF medidas FOR VALUES FROM ('2026-03-15') TO ('2026-04-01')",
               "INSERT INTO medidas VALUES (100, '2026-03-20', 'a', 1), (101, '2026-01-20', 'a', 1)")
    story.execute("CREATE TABLE medidas_4 (id int NOT NULL, dia date NOT NULL, tenant_id text, v int, PRIMARY KEY (id, dia));"
                  " INSERT INTO medidas_4 VALUES (200, '2026-04-05', 'a', 4)")
    story.execute("ALTER TABLE medidas ATTACH PARTITION medidas_4 FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')")
    story.sidecar.wait_ready()
    story.then("attached", "UPDATE medidas SET v = v + 1")
    story.check("a new one", "attached")
    story.back_to("attached")
    story.execute("ALTER TABLE medidas DETACH PARTITION medidas_3")
    story.sidecar.wait_ready()
    story.then("detached", "UPDATE medidas SET v = v + 1", "DELETE FROM medidas_3")
    story.check("attached", "detached")
    story.execute("DROP TABLE medidas_1")
    story.then("dropped", "UPDATE medidas SET v = v + 1")
    story.check()


def test_inherited_tables(story: Story) -> None:
    story.begin("""
        CREATE TABLE pai (id int PRIMARY KEY, tenant_id text, a int);
        CREATE TABLE filho (b text, PRIMARY KEY (id)) INHERITS (pai);
        INSERT INTO pai VALUES (1, 'a', 1), (2, 'b', 2);
        INSERT INTO filho VALUES (3, 'a', 3, 'x'), (4, 'b', 4, 'y');""")
    story.then("changed", "UPDATE ONLY pai SET a = a + 1", "UPDATE filho SET a = a + 10", "DELETE FROM filho WHERE id = 3")
    story.check("changed")
