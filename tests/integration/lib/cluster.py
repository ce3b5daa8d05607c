"""A scratch PostgreSQL, reached by a Unix socket and loopback TCP, gone at the end of its test module."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator, Mapping, Sequence

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from lib.wait import wait_for

# Small enough that a dozen of them fit a laptop; safe only because no one needs them after a crash of
# the machine. A crash of the server alone loses nothing: the kernel has what was written.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "wal_level": "logical",
    "max_connections": "60",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_prepared_transactions": "10",
    "shared_buffers": "32MB",
    "min_wal_size": "32MB",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "fsync": "off",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%a ",
    "log_min_messages": "warning",
    "deadlock_timeout": "200ms",
}


def postgres_bindir() -> Path:
    """The newest PostgreSQL server installed, or PG_BINDIR."""
    if "PG_BINDIR" in os.environ:
        return Path(os.environ["PG_BINDIR"])
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if not found:
        raise RuntimeError("no PostgreSQL server found; scripts/install-deps.sh installs it, or set PG_BINDIR")
    return found[-1].parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: it refuses root, so then it is user postgres."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def run_as_server(words: Sequence[str | Path], stdin: bytes | None = None) -> str:
    """Runs a program of PostgreSQL; its output goes to a file, since a server it leaves behind would hold
    a pipe open."""
    user = server_user()
    who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            [str(word) for word in words], stdout=said, stderr=subprocess.STDOUT, cwd="/", check=False,
            **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}), **who,
        )
        said.seek(0)
        text = said.read().decode(errors="replace")
    if done.returncode != 0:
        raise RuntimeError(f"{Path(str(words[0])).name} ended with {done.returncode}:\n{text}")
    return text


class Cluster:
    """One data folder and its server. `create` makes a new one; the oracle brings its own."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.bindir = postgres_bindir()
        self.folder = folder
        self.data = folder / "data"
        self.archive = folder / "wal_archive"
        self.logfile = folder / "postgresql.log"
        self.port = free_port()
        self.settings = {**SETTINGS, **(settings or {})}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._hand_over(self.folder)

    @classmethod
    def create(cls, folder: Path, settings: Mapping[str, str] | None = None, archive: bool = False) -> Cluster:
        """initdb and start. With `archive`, finished WAL goes to the folder `wal_archive`, for an oracle;
        WAL segments of 1 MB keep that quick."""
        cluster = cls(folder, settings)
        cluster.archive.mkdir()
        cluster._hand_over(cluster.archive)
        if archive:
            file = f"{cluster.archive}/%f"
            cluster.settings |= {
                "archive_mode": "on",
                "archive_command": f"test ! -f {file} && cp %p {file}.part && mv {file}.part {file}",
            }
        run_as_server([
            cluster.bindir / "initdb", "-D", cluster.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-sync", "--no-instructions", "--wal-segsize=1",
        ])
        cluster.start()
        return cluster

    @staticmethod
    def _hand_over(path: Path) -> None:
        user = server_user()
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)

    # ---- the server ----

    def write_settings(self) -> None:
        """Settings that the test chose win over those in the data folder: the file is read last."""
        here = {**self.settings, "unix_socket_directories": str(self.folder), "port": str(self.port)}
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in here.items()]
        file = self.data / "postgresql.auto.conf"
        file.write_text("".join(lines), encoding="utf-8")
        self._hand_over(file)

    def pg_ctl(self, *words: str) -> str:
        return run_as_server([self.bindir / "pg_ctl", "-D", self.data, "-w", "-t", "60", *words])

    def start(self) -> None:
        self.write_settings()
        try:
            self.pg_ctl("-l", str(self.logfile), "start")
        except RuntimeError as failure:
            raise RuntimeError(f"{failure}\n{self.log_tail()}") from None

    def stop(self, mode: str = "fast") -> None:
        if self.is_running():
            self.pg_ctl("-m", mode, "stop")

    def restart(self, mode: str = "fast", **settings: str) -> None:
        self.stop(mode)
        self.settings |= settings
        self.start()

    def reload(self, **settings: str) -> None:
        """Changes settings of the running server, and waits until a new session has them."""
        self.settings |= settings
        self.write_settings()
        self.pg_ctl("reload")
        for name, value in settings.items():
            wait_for(f"{name} = {value} after reload", lambda n=name, v=value: self.setting(n) == v, 10)

    def setting(self, name: str) -> str:
        return self.query_value("SELECT setting FROM pg_settings WHERE name = %s", (name,))

    def is_running(self) -> bool:
        return self.pid() is not None

    def pid(self) -> int | None:
        """The postmaster, if it lives."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
            return pid
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None

    def log_tail(self, lines: int = 40) -> str:
        if not self.logfile.exists():
            return "(no server log)"
        return "\n".join(self.logfile.read_text(errors="replace").splitlines()[-lines:])

    def remove(self) -> None:
        """Ends the server in whatever state it is, by its own pid, and removes the folder."""
        try:
            self.stop("immediate")
        except RuntimeError:
            pid = self.pid()
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- clients ----

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"host={self.folder} port={self.port} dbname={database} user={user}"

    def tcp_dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} dbname={database} user={user}"

    def connect(self, database: str = "postgres", autocommit: bool = True, user: str = "postgres",
                options: str = "") -> psycopg2.extensions.connection:
        conn = psycopg2.connect(self.dsn(database, user), application_name="test", options=options)
        conn.autocommit = autocommit
        return conn

    @contextlib.contextmanager
    def session(self, database: str = "postgres", autocommit: bool = True, user: str = "postgres",
                ) -> Iterator[psycopg2.extensions.cursor]:
        """A cursor on a connection of its own, closed at the end (what was not committed is undone)."""
        conn = self.connect(database, autocommit, user)
        try:
            with conn.cursor() as cur:
                yield cur
        finally:
            conn.close()

    def execute(self, sql: str, params: Sequence[object] | None = None, database: str = "postgres") -> None:
        with self.session(database) as cur:
            cur.execute(sql, params)

    def query(self, sql: str, params: Sequence[object] | None = None, database: str = "postgres") -> list[tuple]:
        with self.session(database) as cur:
            cur.execute(sql, params)
            return cur.fetchall()

    def query_value(self, sql: str, params: Sequence[object] | None = None, database: str = "postgres"):
        return self.query(sql, params, database)[0][0]

    def psql(self, database: str, script: str) -> str:
        """Runs a script with psql, stopping at the first error."""
        return run_as_server([
            self.bindir / "psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(database), "-f", "-",
        ], stdin=script.encode())

    def create_database(self, name: str, **options: str) -> None:
        words = " ".join(f"{key} {value}" for key, value in options.items())
        self.execute(f'CREATE DATABASE "{name}" {words}')

    def drop_database(self, name: str) -> None:
        """With the slots in it: a database that has one cannot be dropped."""
        def dropped() -> bool:
            for slot, pid in self.query(
                    "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s", (name,)):
                if pid is not None:
                    self.query("SELECT pg_terminate_backend(%s)", (pid,))
                    return False
                try:
                    self.query("SELECT pg_drop_replication_slot(%s)", (slot,))
                except psycopg2.errors.ObjectInUse:
                    return False
            return True

        wait_for(f"the slots of {name} to be free", dropped, 20)
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    # ---- WAL ----

    def insert_lsn(self) -> str:
        return self.query_value("SELECT pg_current_wal_insert_lsn()::text")

    def switch_wal(self) -> None:
        """Ends the current WAL segment and waits until it is archived."""
        if self.settings.get("archive_mode") != "on":
            raise RuntimeError("this cluster archives no WAL")
        last = self.query_value("SELECT pg_walfile_name(pg_switch_wal())")
        wait_for(f"WAL segment {last} in the archive", (self.archive / last).exists, 60, self.log_tail)


def lsn_number(text: str) -> int:
    """`16/B374D848` as a number."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def lsn_text(number: int) -> str:
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"
