"""A scratch PostgreSQL with durable settings, and a sidecar on it.

The settings are those a production server would have (fsync on, synchronous commits) because both
sides of each comparison pay for them. Reached by Unix sockets only."""

import contextlib
import glob
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time

import psycopg2

import measure

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SETTINGS = {
    "listen_addresses": "''",
    "wal_level": "logical",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # Background work would fall on one run and not on the next.
    "autovacuum": "off",
    "lc_messages": "'C'",
}


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


def bindir():
    found = os.environ.get("PG_BINDIR")
    if not found:
        candidates = glob.glob("/usr/lib/postgresql/*/bin")
        if not candidates:
            raise BenchError("no PostgreSQL found; scripts/install-deps.sh bench installs it, or set PG_BINDIR")
        found = max(candidates, key=lambda path: int(path.split("/")[4]))
    return found


def pgstrata_binary():
    found = os.path.abspath(os.environ.get("PGSTRATA") or os.path.join(REPOSITORY, "build", "release", "pgstrata"))
    if not os.access(found, os.X_OK):
        raise BenchError("no release build of pgstrata; `make bench` builds it first, or set PGSTRATA")
    return found


def wait_for(what, seconds, condition, every=0.02):
    """Polls until `condition()` is true; its truth value is the answer."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise BenchError(f"waited {seconds} s in vain for {what}")
        time.sleep(every)


def stop_process(process, seconds=30):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def scratch_folder():
    """Writable by the server's user: PostgreSQL refuses to run as root, so user postgres runs it then."""
    folder = tempfile.mkdtemp(prefix="pgstrata-bench-")
    try:
        os.chmod(folder, 0o711)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    def __init__(self, folder, name="main", settings=None, data=None):
        self.bindir = bindir()
        self.home = os.path.join(folder, name)
        self.data = data or os.path.join(self.home, "data")
        self.settings = SETTINGS | (settings or {})
        # Unix socket names hold 107 bytes; a long TMPDIR would not leave room.
        self.sockets = tempfile.mkdtemp(prefix="pgs-", dir="/tmp")
        self.who = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            self.who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.makedirs(self.home, mode=0o700, exist_ok=True)
        for path in (self.home, self.sockets):
            self.give(path)

    def give(self, path):
        """Makes the server's user the owner."""
        if self.who:
            os.chown(path, self.who["user"], self.who["group"])

    def run(self, *words, env=None, check=True):
        """A program as the server's user. Output goes to a file: a daemon would hold a pipe open."""
        binary = words[0] if os.path.isabs(words[0]) else os.path.join(self.bindir, words[0])
        with tempfile.TemporaryFile() as said:
            done = subprocess.run([binary, *words[1:]], stdout=said, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, cwd="/", check=False, env=env, **self.who)
            said.seek(0)
            text = said.read().decode(errors="replace")
        if check and done.returncode != 0:
            raise BenchError(f"{os.path.basename(words[0])} ended with {done.returncode}:\n{text[-3000:]}")
        return text

    def create(self):
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        self.configure(self.settings)

    def configure(self, settings):
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in settings.items())
            conf.write(f"unix_socket_directories = '{self.sockets}'\n")

    def start(self):
        self.run("pg_ctl", "-D", self.data, "-l", os.path.join(self.home, "server.log"), "-w", "-t", "600", "start")

    def restart(self, settings):
        """With further settings that need it."""
        self.run("pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")
        self.configure(settings)
        self.start()

    def stop(self):
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            self.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def dsn(self, database):
        return f"host={self.sockets} dbname={database} user=postgres"

    def connect(self, database="postgres"):
        conn = psycopg2.connect(self.dsn(database), application_name="bench")
        conn.autocommit = True
        return conn

    def sql(self, database, text, parameters=None):
        """Runs statements; the last one's rows are the answer."""
        conn = self.connect(database)
        try:
            with conn.cursor() as cur:
                cur.execute(text, parameters)
                return cur.fetchall() if cur.description else []
        finally:
            conn.close()

    def value(self, database, text, parameters=None):
        return self.sql(database, text, parameters)[0][0]

    def version(self):
        return self.value("postgres", "SHOW server_version").split()[0]

    def wal_end(self):
        """Flushed, so that a walsender can reach it."""
        return self.value("postgres", "SELECT pg_current_wal_flush_lsn()")


@contextlib.contextmanager
def running_cluster(folder, name="main", settings=None):
    cluster = Cluster(folder, name, settings)
    try:
        cluster.create()
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Sidecar:
    """pgstrata on one database, with an archive of its own."""

    def __init__(self, cluster, database, folder, slot=None, **settings):
        self.cluster = cluster
        self.database = database
        self.archive = tempfile.mkdtemp(prefix="archive-", dir=folder)
        self.log = self.archive + ".log"
        self.process = None
        inherited = {name: value for name, value in os.environ.items()
                     if not name.startswith(("PG", "DB_", "BACKUP_", "AWS_"))}
        self.environment = inherited | {
            "DB_HOST": cluster.sockets,
            "DB_NAME": database,
            "DB_USER": "postgres",
            "BACKUP_DIR": self.archive,
        } | settings
        if slot:
            self.environment["PGSTRATA_SLOT"] = slot

    def run(self, *words, check=True):
        """A pgstrata command; its JSON answer, or None when it failed and may."""
        done = subprocess.run([pgstrata_binary(), *words, "--json"], env=self.environment, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0:
            if check:
                raise BenchError(f"pgstrata {' '.join(words)} ended with {done.returncode}:\n"
                                 f"{done.stdout}{done.stderr}{self.log_tail()}")
            return None
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def log_tail(self):
        if not os.path.exists(self.log):
            return ""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "\nlog of serve, its end:\n" + "".join(log.readlines()[-30:])

    def start(self, *options):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([pgstrata_binary(), "serve", *options], env=self.environment,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        return self.process.pid

    def check_alive(self):
        if self.process.poll() is not None:
            raise BenchError(f"pgstrata serve ended with {self.process.returncode}{self.log_tail()}")

    def stop(self):
        if self.process is not None:
            stop_process(self.process)

    def discard(self):
        self.stop()
        shutil.rmtree(self.archive, ignore_errors=True)

    def wait_streaming(self, seconds=300):
        """Until the first bases are in and the stream is live."""
        def ready():
            self.check_alive()
            status = self.run("status", check=False)
            return status and status["state"] == "streaming" and not status["gaps"]
        wait_for("pgstrata to stream", seconds, ready, every=0.25)

    def flush(self, seconds=120):
        self.run("flush", "--timeout", f"{seconds}s")


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
