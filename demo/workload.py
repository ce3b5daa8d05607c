"""The school's everyday work: a few writers that serve all tenants without a pause.

Before each transaction a writer asks for the tenant's advisory lock, shared. Whoever holds it
exclusively has paused that tenant, as an application's maintenance switch would; the writers then
serve the others.
"""

import random
import threading
import time

import psycopg2

WRITERS = 3
PAUSE_S = 0.015  # between two transactions of one writer: this is an ordinary morning, not a load test


def enrol(cur, tenant, rng):
    cur.execute(
        "INSERT INTO alunos (tenant_id, escola_id, nome, turma, nascimento)"
        " SELECT tenant_id, id, %s, %s, date '2012-03-01' FROM escolas"
        " WHERE tenant_id = %s ORDER BY random() LIMIT 1 RETURNING id",
        (f"Aluno {rng.randrange(10**6)}", f"{rng.randint(1, 9)}{rng.choice('ABC')}", tenant))
    aluno = cur.fetchone()[0]
    cur.execute(
        "INSERT INTO matriculas (tenant_id, aluno_id, produto_id, valor)"
        " SELECT tenant_id, %s, id, preco FROM produtos WHERE tenant_id = %s ORDER BY random() LIMIT 2",
        (aluno, tenant))


def grade(cur, tenant, rng):
    cur.execute(
        "UPDATE alunos SET media = %s WHERE id IN"
        " (SELECT id FROM alunos WHERE tenant_id = %s ORDER BY random() LIMIT 3)",
        (rng.randint(0, 1000) / 100, tenant))


def sell(cur, tenant, _rng):
    cur.execute(
        "UPDATE produtos SET estoque = estoque - 1 WHERE id ="
        " (SELECT id FROM produtos WHERE tenant_id = %s ORDER BY random() LIMIT 1)", (tenant,))


def cancel(cur, tenant, _rng):
    cur.execute(
        "DELETE FROM matriculas WHERE id ="
        " (SELECT id FROM matriculas WHERE tenant_id = %s ORDER BY random() LIMIT 1)", (tenant,))


KINDS = (enrol, grade, grade, sell, sell, sell, cancel)


class Workload:
    def __init__(self, dsn, tenants):
        self._dsn = dsn
        self._tenants = tenants
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done = []  # (when, tenant, seconds) of every committed transaction; under _lock
        self._failure = None  # under _lock
        self._threads = [threading.Thread(target=self._write, args=(n,), daemon=True) for n in range(WRITERS)]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def check(self):
        """Raises what ended a writer, if anything did."""
        with self._lock:
            if self._failure is not None:
                raise self._failure

    def committed(self, begin=0.0, end=float("inf")):
        """The transactions that ended in that window of time.monotonic()."""
        with self._lock:
            return [item for item in self._done if begin <= item[0] < end]

    def _write(self, number):
        rng = random.Random(number)
        conn = None
        try:
            conn = psycopg2.connect(self._dsn, application_name="school")
            while not self._stop.wait(PAUSE_S):
                self._transaction(conn, rng.choice(self._tenants), rng)
        except psycopg2.Error as failure:
            with self._lock:
                self._failure = self._failure or failure
        finally:
            if conn is not None:
                conn.close()

    def _transaction(self, conn, tenant, rng):
        began = time.monotonic()
        try:
            with conn, conn.cursor() as cur:
                cur.execute("SELECT pg_try_advisory_xact_lock_shared(hashtext(%s))", (tenant,))
                if not cur.fetchone()[0]:
                    return
                rng.choice(KINDS)(cur, tenant, rng)
        except (psycopg2.errors.DeadlockDetected, psycopg2.errors.ForeignKeyViolation):
            return  # two writers met on one row; a user would press the button again
        ended = time.monotonic()
        with self._lock:
            self._done.append((ended, tenant, ended - began))
