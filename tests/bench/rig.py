"""What every bench stands on: a scratch PostgreSQL, a sidecar on it, and a watch on its slot.

Cluster and Sidecar are those of the integration tests. The settings differ: here they are those of a
production server (fsync, durable commits, ordinary WAL segments), because both sides of each
comparison pay for them."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BENCH = Path(__file__).resolve().parent
REPOSITORY = BENCH.parents[1]
sys.path.insert(0, str(BENCH.parent / "integration"))
if "PGSTRATA" in os.environ:
    os.environ["PGSTRATA_BIN"] = os.environ["PGSTRATA"]

# pylint: disable=wrong-import-position
import lib.cluster  # noqa: E402
import lib.sidecar  # noqa: E402
from lib.cluster import run_as_server  # noqa: E402, F401
from lib.wait import wait_for  # noqa: E402, F401

import measure  # noqa: E402

SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "shared_buffers": "1GB",
    "min_wal_size": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # Background work would fall on one run and not on the next.
    "autovacuum": "off",
}
# A socket's path holds 108 bytes, so TMPDIR is used only if it is short.
SCRATCH_PATH_BYTES_MAX = 60


class BenchError(Exception):
    """The bench cannot go on, or an answer was wrong; the message says why."""


@contextlib.contextmanager
def scratch_folder():
    """Data of one bench, gone at its end."""
    parent = os.environ.get("TMPDIR", "/tmp")
    folder = Path(tempfile.mkdtemp(prefix="pgs-bench-", dir=parent if len(parent) < SCRATCH_PATH_BYTES_MAX else "/tmp"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Cluster(lib.cluster.Cluster):
    def __init__(self, folder, settings=None):
        super().__init__(folder, SETTINGS | (settings or {}))

    def initdb(self):
        run_as_server([self.bindir / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                       "--locale=C.UTF-8", "--no-instructions"])

    def write_settings(self):
        """After what is there: a restored folder brings its restore_command in the same file."""
        file = self.data / "postgresql.auto.conf"
        before = file.read_text(encoding="utf-8")
        super().write_settings()
        file.write_text(before + file.read_text(encoding="utf-8"), encoding="utf-8")

    def pg_ctl(self, *words):
        """A start may be a recovery, which takes its time."""
        return run_as_server([self.bindir / "pg_ctl", "-D", self.data, "-w", "-t", "900", *words])

    def make_folder(self, *names):
        """Below the cluster's own, for the server's user alone."""
        path = self.folder.joinpath(*names)
        path.mkdir(mode=0o700)
        self._hand_over(path)
        return path

    def sql(self, database, text, parameters=None):
        """Runs statements, each in a transaction of its own where possible; the last one's rows, if any."""
        with self.session(database) as cur:
            cur.execute(text, parameters)
            return cur.fetchall() if cur.description else []

    def value(self, database, text, parameters=None):
        return self.sql(database, text, parameters)[0][0]

    def wal_end(self):
        """Flushed, so that a walsender can reach it."""
        return self.value("postgres", "SELECT pg_current_wal_flush_lsn()")

    def program(self, name, *words, **how):
        """Starts one of PostgreSQL's client programs."""
        return subprocess.Popen([self.bindir / name, *words], stdin=subprocess.DEVNULL, **how)


@contextlib.contextmanager
def running_cluster(folder, name="main"):
    cluster = Cluster(folder / name)
    try:
        cluster.initdb()
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


class Sidecar(lib.sidecar.Sidecar):
    """With an archive, and a slot, of its own."""

    def __init__(self, cluster, database, folder, slot, **settings):
        self.folder = Path(tempfile.mkdtemp(prefix="sidecar-", dir=folder))
        super().__init__(cluster, database, self.folder, settings={
            "PGSTRATA_FLUSH_INTERVAL": "5s",  # the product's default
            "PGSTRATA_SLOT": slot,
        } | settings)

    def start_serve(self, *options):
        with open(self.logfile, "ab") as log:
            self._serve = subprocess.Popen([str(self._binary), "serve", *options], env=self.environment,
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        return self._serve.pid

    def check_alive(self):
        if not self.serves():
            raise BenchError(f"pgstrata serve ended by itself\n{self.log_tail()}")

    def flush(self, seconds=300):
        return self.ok("flush", "--timeout", f"{seconds}s", seconds=seconds + 10)

    def stop(self):
        """SIGTERM, so that it flushes and confirms."""
        if self.serves():
            self.terminate(60)

    def discard(self):
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)


class SlotWatch:
    """One connection that watches a slot: how far it is confirmed, and what its walsender burns."""

    def __init__(self, cluster, slot):
        self._conn = cluster.connect()
        self._cur = self._conn.cursor()
        self._slot = slot
        self.walsender_cpu_seconds = 0.0

    def reached(self, lsn):
        self._cur.execute("SELECT confirmed_flush_lsn >= %s::pg_lsn, active_pid FROM pg_replication_slots"
                          " WHERE slot_name = %s", (lsn, self._slot))
        row = self._cur.fetchone()
        if row is None:
            raise BenchError(f"slot {self._slot} is gone")
        reached, walsender = row
        if walsender is not None:
            self.walsender_cpu_seconds = measure.cpu_seconds(walsender) or self.walsender_cpu_seconds
        return reached

    def close(self):
        self._conn.close()


def stop_process(process, seconds=30):
    """SIGTERM, and the end of patience."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
