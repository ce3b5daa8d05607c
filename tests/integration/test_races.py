"""Restores against applications that write at the same moment: never an orphan, never a duplicate."""

from __future__ import annotations

import subprocess
from typing import Iterator

import psycopg2.extensions
import pytest

from lib.cluster import Cluster
from lib.school import School
from lib.sidecar import DONE, REFUSED, Sidecar
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
