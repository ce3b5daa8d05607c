"""Concurrent writers over the school: what an application does, and what it rarely does, all at once.

Every writer is a thread with a session and a random generator of its own, seeded by (seed, number).
Which statement meets which is up to the scheduler; what a writer tries is up to the seed.

    with Workload(cluster, database, tenants, seed=7) as workload:
        workload.wait_commits(200)
    workload.committed      # the transactions that changed covered tables, in no exact order
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Callable, Sequence

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from lib.cluster import Cluster, lsn_number
from lib.wait import wait_for

Cursor = psycopg2.extensions.cursor
# Changes rows of one tenant and says how many of them are in covered tables.
Operation = Callable[[Cursor, str, random.Random], int]


# ---- what an application does to one tenant ----

def enrol(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """A new student with two enrolments: one statement each, two rows in the second."""
    numero = rng.randrange(1000, 10**9)
    cur.execute(
        "INSERT INTO alunos (tenant_id, numero, escola_id, nome, uf, media, apelidos, foto, historico)"
        " SELECT tenant_id, %s, id, %s, 'BA', %s, %s, %s, %s FROM escolas"
        " WHERE tenant_id = %s ORDER BY random() LIMIT 1",
        (numero, f"Aluno {numero}\t'\\", rng.choice((None, "7.50", "10")), rng.choice((None, [], ["a", None])),
         rng.randbytes(rng.randrange(40)), rng.choice((None, "", large_text(rng))), tenant))
    if cur.rowcount == 0:
        return 0
    cur.execute(
        "INSERT INTO matriculas (tenant_id, aluno, produto_id, valor, obs)"
        " SELECT tenant_id, %s, id, least(preco, 1000), %s FROM produtos WHERE tenant_id = %s"
        " ORDER BY random() LIMIT 2",
        (numero, rng.choice((None, "", "obs\n")), tenant))
    return 1 + cur.rowcount


def grade(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """Several rows, few columns; their large text stays as it is and is left out of the stream."""
    cur.execute(
        "UPDATE alunos SET media = %s, mudado_em = clock_timestamp() WHERE tenant_id = %s AND numero IN"
        " (SELECT numero FROM alunos WHERE tenant_id = %s ORDER BY random() LIMIT %s)",
        (rng.randrange(10000) / 100, tenant, tenant, rng.randint(1, 4)))
    return cur.rowcount


def rewrite_history(cur: Cursor, tenant: str, rng: random.Random) -> int:
    cur.execute(
        "UPDATE alunos SET historico = %s WHERE tenant_id = %s AND numero ="
        " (SELECT numero FROM alunos WHERE tenant_id = %s ORDER BY random() LIMIT 1)",
        (rng.choice((None, "curto", large_text(rng))), tenant, tenant))
    return cur.rowcount


def renumber(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """A key update, with unchanged large text to carry along; enrolments follow by ON UPDATE CASCADE."""
    cur.execute(
        "UPDATE alunos SET numero = %s WHERE tenant_id = %s AND numero ="
        " (SELECT numero FROM alunos WHERE tenant_id = %s ORDER BY random() LIMIT 1)",
        (rng.randrange(1000, 10**9), tenant, tenant))
    return cur.rowcount


def expel(cur: Cursor, tenant: str, _rng: random.Random) -> int:
    """A delete whose enrolments go by ON DELETE CASCADE."""
    cur.execute(
        "DELETE FROM alunos WHERE tenant_id = %s AND numero ="
        " (SELECT numero FROM alunos WHERE tenant_id = %s ORDER BY random() LIMIT 1)", (tenant, tenant))
    return cur.rowcount


def cancel(cur: Cursor, tenant: str, rng: random.Random) -> int:
    cur.execute(
        "DELETE FROM matriculas WHERE id IN"
        " (SELECT id FROM matriculas WHERE tenant_id = %s ORDER BY random() LIMIT %s)", (tenant, rng.randint(1, 3)))
    return cur.rowcount


def price(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """Scales matter: 10.1 and 10.10 are different states of a numeric column."""
    cur.execute(
        "UPDATE produtos SET preco = %s::numeric, peso = %s, prazo = %s::interval WHERE id ="
        " (SELECT id FROM produtos WHERE tenant_id = %s ORDER BY random() LIMIT 1)",
        (rng.choice(("10.1", "10.10", "99999999999999999999.000001")), rng.random() * 10 ** rng.randint(-9, 9),
         f"{rng.randrange(400)} days {rng.randrange(90000)} seconds", tenant))
    return cur.rowcount


def stock(cur: Cursor, tenant: str, rng: random.Random) -> int:
    cur.execute(
        "INSERT INTO produtos (tenant_id, nome, preco, manual) SELECT %s, 'Novo ' || i, i, %s"
        " FROM generate_series(1, %s) AS i", (tenant, large_text(rng), rng.randint(1, 3)))
    return cur.rowcount


def attend(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """Upserts of a table whose identity is an index."""
    cur.execute(
        "INSERT INTO frequencias (tenant_id, aluno, dia, presente) VALUES (%s, %s, date '2026-03-01' + %s, %s)"
        " ON CONFLICT (tenant_id, aluno, dia) DO UPDATE SET presente = NOT frequencias.presente, nota = %s",
        (tenant, rng.randrange(30), rng.randrange(5), rng.choice((True, False, None)), rng.choice((None, "", "x"))))
    return cur.rowcount


def forget_attendance(cur: Cursor, tenant: str, rng: random.Random) -> int:
    cur.execute("DELETE FROM frequencias WHERE tenant_id = %s AND aluno = %s", (tenant, rng.randrange(30)))
    return cur.rowcount


def log_event(cur: Cursor, tenant: str, rng: random.Random) -> int:
    cur.execute("INSERT INTO eventos (tenant_id, tipo, corpo) VALUES (%s, %s, %s)",
                (tenant, rng.choice(("entrada", "saída", "multa")), '{"b": 1.0, "a": null}'))
    return cur.rowcount


def reclassify_event(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """May carry the row to the other partition: a delete here and an insert there."""
    cur.execute(
        "UPDATE eventos SET tipo = %s WHERE tenant_id = %s AND id ="
        " (SELECT id FROM eventos WHERE tenant_id = %s ORDER BY random() LIMIT 1)",
        (rng.choice(("entrada", "saída")), tenant, tenant))
    return cur.rowcount


def rename_class(cur: Cursor, tenant: str, rng: random.Random) -> int:
    cur.execute(
        'UPDATE "Turmas à Noite" SET "Descrição" = %s, "select" = %s, horario = ROW(%s::time, NULL)::horario'
        ' WHERE tenant_id = %s AND "Código da turma" = %s',
        (f"Çá\\N\"{rng.randrange(100)}", ["\\", "NULL", ""], f"{rng.randrange(24):02}:15", tenant, rng.randint(1, 5)))
    return cur.rowcount


def swap_classes(cur: Cursor, tenant: str, _rng: random.Random) -> int:
    """Two rows exchange their keys within one transaction, by way of a third key."""
    changed = 0
    for before, after in ((1, -1), (2, 1), (-1, 2)):
        cur.execute('UPDATE "Turmas à Noite" SET "Código da turma" = %s WHERE tenant_id = %s'
                    ' AND "Código da turma" = %s', (after, tenant, before))
        changed += cur.rowcount
    return changed


def close_school(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """A new school, and now and then the end of one, with its students, by cascade."""
    cur.execute(
        "INSERT INTO escolas (tenant_id, nome, turno, turnos, ativa) VALUES (%s, 'Nova', %s::turno, %s::turno[], %s)",
        (tenant, rng.choice(("manhã", "noite")), rng.choice((None, "{}", "{tarde}")), rng.random() < 0.5))
    changed = cur.rowcount
    if rng.random() < 0.3:
        cur.execute("DELETE FROM escolas WHERE id = (SELECT id FROM escolas WHERE tenant_id = %s"
                    " ORDER BY random() LIMIT 1)", (tenant,))
        changed += cur.rowcount
    return changed


def configure(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """The tenant's own row."""
    cur.execute("UPDATE tenants SET config = jsonb_build_object('limite', %s::numeric) WHERE id = %s",
                (str(rng.randrange(100)), tenant))
    return cur.rowcount


def exchange(cur: Cursor, _tenant: str, rng: random.Random) -> int:
    """The shared table."""
    cur.execute("INSERT INTO moedas VALUES (%s, 'Moeda', %s)"
                " ON CONFLICT (codigo) DO UPDATE SET cambio = excluded.cambio",
                (f"{rng.randrange(40)}", rng.random() * 100))
    return cur.rowcount


def notify(cur: Cursor, tenant: str, rng: random.Random) -> int:
    cur.execute("INSERT INTO avisos VALUES (%s, %s, 'Aviso')", (rng.randrange(10**9), tenant))
    return cur.rowcount


EVERYDAY: tuple[Operation, ...] = (
    enrol, enrol, enrol, grade, grade, grade, rewrite_history, renumber, expel, cancel, price, price, stock, attend,
    attend, forget_attendance, log_event, log_event, reclassify_event, rename_class, swap_classes, close_school,
    configure, exchange, notify,
)


# ---- what reaches beyond one tenant; only for runs that compare the whole archive ----

def move_product(cur: Cursor, tenant: str, _rng: random.Random) -> int:
    """A row changes its tenant. Its key does not say so: the move trigger has to."""
    cur.execute(
        "UPDATE produtos SET tenant_id = (SELECT id FROM tenants WHERE id <> %s ORDER BY random() LIMIT 1) WHERE id ="
        " (SELECT id FROM produtos WHERE tenant_id = %s ORDER BY random() LIMIT 1)", (tenant, tenant))
    return cur.rowcount


def clear_notices(cur: Cursor, tenant: str, rng: random.Random) -> int:
    """TRUNCATE ends the rows of every tenant at once. Seldom: everybody waits for it."""
    if rng.random() < 0.7:
        return notify(cur, tenant, rng)
    cur.execute("TRUNCATE avisos")
    cur.execute("INSERT INTO avisos VALUES (1, %s, 'depois')", (tenant,))
    return cur.rowcount


ACROSS_TENANTS: tuple[Operation, ...] = (move_product, move_product, clear_notices)


def large_text(rng: random.Random) -> str:
    """More than a page's worth, so that it is stored out of line."""
    return rng.randbytes(rng.randint(1500, 3000)).hex()


# ---- writers ----

@dataclass(frozen=True)
class Commit:
    """A transaction that committed and changed covered tables."""

    xid: int
    insert_lsn_after: int | None  # where WAL was inserted at some moment after it, where it was asked


# What may happen to a writer among others; it rolls back and goes on.
ORDINARY_FAILURES = (
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.UniqueViolation,
    psycopg2.errors.ForeignKeyViolation,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.SerializationFailure,  # a row that moved to another partition meanwhile
)


class Workload:
    """A crew of writers. Leaving the `with` block stops them and raises what any of them failed with."""

    def __init__(self, cluster: Cluster, database: str, tenants: Sequence[str], seed: int = 1, writers: int = 8,
                 operations: Sequence[Operation] = EVERYDAY, reconnect: bool = False) -> None:
        self._cluster = cluster
        self._database = database
        self._tenants = list(tenants)
        self._operations = list(operations)
        self._reconnect = reconnect  # the server may go away: come back, and go on
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards the three below
        self._committed: list[Commit] = []
        self._failures: list[BaseException] = []
        self._setbacks = 0
        self._threads = [
            threading.Thread(target=self._write, args=(number, random.Random(f"{seed}/{number}")))
            for number in range(writers)
        ]

    def __enter__(self) -> Workload:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, value, trace) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            self.check()

    def check(self) -> None:
        with self._lock:
            if self._failures:
                raise self._failures[0]

    @property
    def committed(self) -> list[Commit]:
        with self._lock:
            return list(self._committed)

    def wait_commits(self, more: int, seconds: float = 60) -> None:
        """Waits until `more` further transactions have committed."""
        goal = len(self.committed) + more

        def reached() -> bool:
            self.check()
            return len(self.committed) >= goal

        wait_for(f"{more} more commits of the workload", reached, seconds,
                 lambda: f"{len(self.committed)} so far, {self._setbacks} setbacks\n{self._cluster.log_tail()}")

    def _write(self, number: int, rng: random.Random) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._write_in_session(number, rng)
                except (psycopg2.OperationalError, psycopg2.InterfaceError):
                    if not self._reconnect:
                        raise
                    self._stop.wait(0.1)
        except BaseException as failure:  # shown by the main thread
            with self._lock:
                self._failures.append(failure)

    def _write_in_session(self, number: int, rng: random.Random) -> None:
        conn = self._cluster.connect(self._database)
        try:
            with conn.cursor() as cur:
                while not self._stop.is_set():
                    try:
                        self._transaction(cur, rng, f"writer-{number}")
                    except ORDINARY_FAILURES:
                        cur.execute("ROLLBACK")
                        with self._lock:
                            self._setbacks += 1
        finally:
            conn.close()

    def _transaction(self, cur: Cursor, rng: random.Random, gid: str) -> None:
        tenant = rng.choice(self._tenants)
        shape = rng.choices(SHAPES, SHAPE_WEIGHTS)[0]
        cur.execute("BEGIN")
        changed = self._some(cur, tenant, rng, 1 if shape == "single" else 3)
        if shape == "many":
            changed += self._some(cur, tenant, rng, 12)
        elif shape == "many tenants":
            for other in rng.sample(self._tenants, min(3, len(self._tenants))):
                changed += self._some(cur, other, rng, 2)
        elif shape == "savepoints":
            changed += self._with_savepoints(cur, tenant, rng)
        elif shape == "long":
            self._outlast_others(rng)
            changed += self._some(cur, tenant, rng, 3)
        elif shape == "rollback":
            cur.execute("ROLLBACK")
            return
        cur.execute("SELECT pg_current_xact_id_if_assigned()::text")
        xid = cur.fetchone()[0]
        if shape == "two-phase" and not self._reconnect:  # a server that goes away would leave it prepared
            cur.execute("PREPARE TRANSACTION %s", (gid,))
            cur.execute("COMMIT PREPARED %s", (gid,))
        else:
            cur.execute("COMMIT")
        lsn_after = None
        if rng.random() < 0.2:
            cur.execute("SELECT pg_current_wal_insert_lsn()::text")
            lsn_after = lsn_number(cur.fetchone()[0])
        if changed > 0:
            with self._lock:
                self._committed.append(Commit(int(xid), lsn_after))

    def _some(self, cur: Cursor, tenant: str, rng: random.Random, most: int) -> int:
        return sum(rng.choice(self._operations)(cur, tenant, rng) for _ in range(rng.randint(1, most)))

    def _with_savepoints(self, cur: Cursor, tenant: str, rng: random.Random) -> int:
        """One savepoint is kept, one undone, and one undone within a kept one."""
        cur.execute("SAVEPOINT kept")
        changed = self._some(cur, tenant, rng, 3)
        cur.execute("SAVEPOINT undone_inside")
        self._some(cur, tenant, rng, 2)
        cur.execute("ROLLBACK TO undone_inside")
        cur.execute("RELEASE kept")
        cur.execute("SAVEPOINT undone")
        self._some(cur, tenant, rng, 4)
        cur.execute("ROLLBACK TO undone")
        return changed + self._some(cur, tenant, rng, 1)

    def _outlast_others(self, rng: random.Random) -> None:
        """Stays open until a number of other transactions have committed, or for half a second: the
        others may be waiting for a row of this one."""
        goal = len(self.committed) + rng.randint(5, 30)
        give_up = time.monotonic() + 0.5
        while len(self.committed) < goal and time.monotonic() < give_up:
            if self._stop.wait(0.01):
                return


SHAPES = ("single", "few", "many", "many tenants", "rollback", "savepoints", "long", "two-phase")
SHAPE_WEIGHTS = (20, 30, 8, 8, 10, 12, 5, 4)
