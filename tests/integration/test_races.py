"""Restores against applications that write at the same moment: never an orphan, never a duplicate."""

from __future__ import annotations

import random
import subprocess
import threading
from typing import Iterator

import psycopg2
import psycopg2.extensions
import pytest

from lib.cluster import Cluster
from lib.school import School
from lib.sidecar import CONFLICT, DONE, FAILED, REFUSED, Sidecar
from lib.wait import wait_for

PATIENT, NEIGHBOUR = "rede-00", "rede-01"

Session = psycopg2.extensions.cursor


class Race:
    """A tenant that goes back, and another session in the middle of a transaction."""

    def __init__(self, sidecar: Sidecar, cluster: Cluster, database: str, other: Session) -> None:
        self.sidecar = sidecar
        self.cluster = cluster
        self.database = database
        self.other = other

    def execute(self, sql: str, *params: object) -> None:
        self.cluster.execute(sql, params, self.database)

    def begin(self, lsn: str, timeout: str = "30s") -> subprocess.Popen[str]:
        """Starts the restore, and returns when it waits for others or has ended."""
        process = self.sidecar.begin("pitr", "-t", PATIENT, "--target-lsn", lsn, "--yes", "--lock-timeout", timeout)
        wait_for("pitr to wait for the other session", lambda: process.poll() is not None or self.cluster.query_value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
            " AND query LIKE '%%still_writing%%'", (self.database,)) > 0, 30)
        return process

    def duplicates(self) -> list[tuple]:
        return self.cluster.query("SELECT texto FROM avisos GROUP BY 1 HAVING count(*) > 1", database=self.database)


@pytest.fixture
def race(serving: Sidecar, school: School, cluster: Cluster, database: str) -> Iterator[Race]:
    with cluster.session(database, autocommit=False) as other:
        yield Race(serving, cluster, database, other)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout + stderr


UNIQUE = "UNIQUE (texto) DEFERRABLE INITIALLY IMMEDIATE"
UNIQUE_DEFERRED = "UNIQUE (texto) DEFERRABLE INITIALLY DEFERRED"
EXCLUDED = "EXCLUDE (texto WITH =) DEFERRABLE INITIALLY DEFERRED"


def lose_notices(race: Race, constraint: str) -> str:
    """All texts are different and must be, and then the patient loses its own; returns the moment before."""
    race.execute("UPDATE avisos SET texto = tenant_id || ' ' || id")
    race.execute(f"ALTER TABLE avisos ADD CONSTRAINT um_texto {constraint}")
    lsn = race.sidecar.flush()["archived_lsn"]
    race.execute("DELETE FROM avisos WHERE tenant_id = %s", PATIENT)
    return lsn


def take_a_text(race: Race) -> None:
    """The neighbour takes a text that the patient had; not committed yet."""
    race.other.execute("INSERT INTO avisos SELECT 990000, %s, %s || ' 1'", (NEIGHBOUR, PATIENT))


@pytest.mark.parametrize("constraint", [UNIQUE, UNIQUE_DEFERRED, EXCLUDED])
def test_a_value_taken_by_an_open_transaction_is_never_put_back_beside_it(race: Race, constraint: str) -> None:
    """It was put in first, so its own recheck sees nothing wrong: the restore has to wait for its end."""
    lsn = lose_notices(race, constraint)
    take_a_text(race)
    process = race.begin(lsn)
    race.other.connection.commit()
    code, said = finish(process)
    assert not race.duplicates(), said
    assert code == REFUSED and "um_texto" in said, said


def test_a_value_that_is_given_up_again_does_not_stop_the_restore(race: Race) -> None:
    lsn = lose_notices(race, UNIQUE)
    take_a_text(race)
    process = race.begin(lsn)
    assert process.poll() is None, finish(process)
    race.other.connection.rollback()
    code, said = finish(process)
    assert code == DONE and not race.duplicates(), said


def test_a_transaction_that_does_not_end_is_named_and_others_are_not_held_up(race: Race) -> None:
    lsn = lose_notices(race, UNIQUE)
    take_a_text(race)
    process = race.begin(lsn, timeout="3s")
    assert process.poll() is None, finish(process)
    race.execute("INSERT INTO avisos VALUES (990001, %s, 'escrito entretanto')", NEIGHBOUR)
    code, said = finish(process)
    assert code != DONE and str(race.other.connection.info.backend_pid) in said, said


def test_a_transaction_that_waits_for_the_restore_is_let_go_first(race: Race) -> None:
    """Each waits for the other: the restore gives way, and comes again when the other has ended."""
    lsn = lose_notices(race, UNIQUE)
    race.execute("UPDATE tenants SET nome = 'depois' WHERE id = %s", PATIENT)
    race.other.execute("INSERT INTO avisos VALUES (990000, %s, 'outro')", (NEIGHBOUR,))
    process = race.begin(lsn)
    assert process.poll() is None, finish(process)
    race.other.execute("UPDATE tenants SET plano = 'caro' WHERE id = %s", (PATIENT,))
    race.other.connection.commit()
    code, said = finish(process)
    assert code == DONE, said
    assert race.cluster.query_value("SELECT nome FROM tenants WHERE id = %s", (PATIENT,),
                                    database=race.database) != "depois"


# ---- many at once ----

RIVALS = 3  # sessions that write against the restores
# Each is one transaction. They meet the restore where its triggers are off: children under a parent that it
# deletes, parents gone under a child that it puts back, values that it puts back elsewhere; and rows locked in
# an order of their own, so that there are deadlocks. %(p)s is the patient, %(n)s a neighbour, %(i)s a number.
ATTACKS = (
    "INSERT INTO alunos (tenant_id, numero, escola_id, nome) SELECT %(p)s, 500000 + %(i)s, max(id), 'rival'"
    " FROM escolas WHERE tenant_id = %(p)s ON CONFLICT DO NOTHING",
    "INSERT INTO matriculas (tenant_id, aluno, produto_id, valor) SELECT a.tenant_id, a.numero, b.id, 1"
    " FROM alunos a, produtos b WHERE a.tenant_id = %(p)s AND b.tenant_id = %(p)s ORDER BY random() LIMIT 2",
    "DELETE FROM produtos WHERE id = (SELECT id FROM produtos WHERE tenant_id = %(p)s ORDER BY random() LIMIT 1)",
    "DELETE FROM alunos WHERE tenant_id = %(p)s AND numero = 1 + %(i)s %% 24",
    "DELETE FROM avisos WHERE tenant_id = %(p)s AND id = 1 + %(i)s %% 3",
    "INSERT INTO avisos SELECT 900000 + %(i)s, %(n)s, %(p)s || ' ' || 1 + %(i)s %% 3 ON CONFLICT (id) DO NOTHING",
    "DELETE FROM avisos WHERE tenant_id = %(n)s AND id >= 900000",
    "UPDATE matriculas SET valor = valor + 1 WHERE tenant_id = %(p)s AND aluno %% 5 = %(i)s %% 5;"
    " UPDATE alunos SET media = 1 WHERE tenant_id = %(p)s AND numero %% 5 = %(i)s %% 5",
)
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


class Rivals:
    """Sessions that attack until told to stop; a statement that PostgreSQL refuses is an attack too."""

    def __init__(self, dsn: str, seed: int) -> None:
        self.stop = threading.Event()
        self.committed = self.refused = 0
        self.guard = threading.Lock()  # of the two counts
        self.threads = [threading.Thread(target=self.attack, args=(dsn, seed * RIVALS + i)) for i in range(RIVALS)]

    def __enter__(self) -> Rivals:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def attack(self, dsn: str, seed: int) -> None:
        dice = random.Random(seed)
        conn = psycopg2.connect(dsn)
        while not self.stop.is_set():
            done = self.one(conn, dice)
            with self.guard:
                self.committed += done
                self.refused += not done
        conn.close()

    @staticmethod
    def one(conn: psycopg2.extensions.connection, dice: random.Random) -> bool:
        values = {"p": PATIENT, "n": NEIGHBOUR, "i": dice.randrange(1000)}
        conn.set_session(isolation_level=dice.choice(LEVELS))
        try:
            with conn, conn.cursor() as cur:
                for sql in dice.sample(ATTACKS, dice.randint(1, 3)):
                    cur.execute(sql, values)
        except psycopg2.errors.Error:
            return False
        return True


ORPHANS = """
SELECT 'matricula', c.id::text FROM matriculas c WHERE NOT EXISTS (SELECT FROM produtos p WHERE p.id = c.produto_id)
    OR NOT EXISTS (SELECT FROM alunos a WHERE a.tenant_id = c.tenant_id AND a.numero = c.aluno)
UNION ALL
SELECT 'aluno', c.numero::text FROM alunos c WHERE NOT EXISTS (SELECT FROM escolas p WHERE p.id = c.escola_id)
"""


def storm(race: Race, restores: int, seed: int) -> str:
    lsn = lose_notices(race, UNIQUE_DEFERRED)
    codes = {DONE: 0, FAILED: 0, REFUSED: 0, CONFLICT: 0}
    with Rivals(race.cluster.dsn(race.database), seed) as rivals:
        for _ in range(restores):
            result = race.sidecar.run("pitr", "-t", PATIENT, "--target-lsn", lsn, "--yes", "--lock-timeout", "2s")
            assert result.code in codes, str(result)
            codes[result.code] += 1
            broken = race.duplicates() + race.cluster.query(ORPHANS, database=race.database)
            assert not broken, f"seed {seed}: {broken}\n{result}"
    assert rivals.committed > restores, (codes, rivals.committed, rivals.refused)
    race.execute("DELETE FROM avisos WHERE tenant_id = %s AND id >= 900000", NEIGHBOUR)
    race.sidecar.pitr(PATIENT, "--target-lsn", lsn)  # when they are gone, nothing stands in its way
    return f"{restores} restores {codes}, rivals: {rivals.committed} committed, {rivals.refused} refused"


def test_restores_among_rivals_leave_no_orphan_and_no_duplicate(race: Race) -> None:
    print(storm(race, 12, 1))


@pytest.mark.full
def test_many_restores_among_rivals_leave_no_orphan_and_no_duplicate(race: Race) -> None:
    print(storm(race, 60, 2))
