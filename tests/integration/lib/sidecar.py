"""The pgstrata binary as an operator uses it: commands, and `serve` in the background.

The binary is $PGSTRATA_BIN, else the release build of this repository.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from lib.cluster import Cluster
from lib.rows import SHARED, Row, Rows, Table
from lib.targets import Target
from lib.wait import PATIENCE, wait_for

REPOSITORY = Path(__file__).resolve().parents[3]
COMMAND_DEADLINE_S = 90
FOREIGN_SETTINGS = ("PG", "DB_", "BACKUP_", "AWS_")  # what must not leak in from the caller's environment

# Exit codes of DESIGN 10.
DONE, FAILED, USAGE, NOT_FOUND, REFUSED, CONFLICT = range(6)


def binary() -> Path:
    path = Path(os.environ.get("PGSTRATA_BIN", REPOSITORY / "build/release/pgstrata")).resolve()
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"no pgstrata binary at {path}: build it first (`make`), or set PGSTRATA_BIN")
    return path


@dataclass(frozen=True)
class Result:
    """What a command said."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.stdout)
        except json.JSONDecodeError as failure:
            raise AssertionError(f"stdout is no JSON ({failure})\n{self}") from None

    @property
    def error(self) -> Mapping[str, Any]:
        """The error object of a failed `--json` command."""
        assert self.code != DONE, f"it did not fail\n{self}"
        answer = self.json
        assert isinstance(answer, dict) and isinstance(answer.get("error"), dict), f"no error object\n{self}"
        return answer["error"]

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

    def __str__(self) -> str:
        return (f"$ pgstrata {shlex.join(self.words)}\nexit {self.code}\n"
                f"stdout: {self.stdout[-3000:]}\nstderr: {self.stderr[-3000:]}")


class Sidecar:
    """One database, one backup folder, at most one `serve` that this object started."""

    def __init__(self, cluster: Cluster, database: str, folder: Path, user: str = "postgres",
                 settings: Mapping[str, str] | None = None) -> None:
        self.cluster = cluster
        self.database = database
        self.backups = folder / "backups"
        self.logfile = folder / "serve.log"
        folder.mkdir(parents=True, exist_ok=True)
        inherited = {
            name: value for name, value in os.environ.items()
            if not name.startswith(FOREIGN_SETTINGS)
        }
        self.environment = inherited | {
            "PGSTRATA_DSN": cluster.dsn(database, user),
            "BACKUP_DIR": str(self.backups),
            "PGSTRATA_FLUSH_INTERVAL": "200ms",
            **(settings or {}),
        }
        self._binary = binary()
        self._serve: subprocess.Popen[bytes] | None = None

    # ---- commands ----

    def run(self, *words: str, as_json: bool = True, environment: Mapping[str, str | None] | None = None,
            seconds: float = COMMAND_DEADLINE_S, stdin: str | None = None) -> Result:
        """Runs a command to its end; `environment` adds settings, None takes one away."""
        every = (*words, "--json") if as_json else words
        with self.begin(*words, as_json=as_json, environment=environment) as process:
            try:
                stdout, stderr = process.communicate(stdin, seconds * PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                stdout, stderr = process.communicate()
                raise AssertionError(f"no end within {seconds * PATIENCE:.0f} s\n"
                                     f"{Result(every, process.returncode, stdout, stderr)}") from None
        return Result(every, process.returncode, stdout, stderr)

    def begin(self, *words: str, as_json: bool = True,
              environment: Mapping[str, str | None] | None = None) -> subprocess.Popen[str]:
        """Starts a command and leaves it to the caller."""
        merged = {**self.environment, **(environment or {})}
        return subprocess.Popen(
            [str(self._binary), *words, *(["--json"] if as_json else [])],
            env={name: value for name, value in merged.items() if value is not None},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")

    def ok(self, *words: str, **how: Any) -> Any:
        """Runs a command that must succeed, and returns its JSON answer."""
        result = self.run(*words, **how)
        assert result.code == DONE, str(result)
        return result.json

    def refuses(self, code: int, *words: str, **how: Any) -> Mapping[str, Any]:
        """Runs a command that must fail with this exit code, and returns the error object."""
        result = self.run(*words, **how)
        assert result.code == code, f"exit {code} expected\n{result}"
        return result.error

    def status(self) -> Mapping[str, Any]:
        """It always answers; its exit code is 1 when the archiver is down."""
        return self.run("status").json

    def flush(self) -> Mapping[str, Any]:
        """Returns when everything committed before the call is in the archive."""
        return self.ok("flush")

    def pitr(self, tenant: str, *words: str) -> Mapping[str, Any]:
        return self.ok("pitr", "-t", tenant, *words, "--yes")

    def export(self, tenant: str, tables: Sequence[Table], folder: Path, target: Target | None = None,
               only: Sequence[str] = ()) -> Rows:
        """The archive's answer for one tenant, in the form that rows.read_all gives."""
        words = target.export_words() if target is not None else []
        words += ["--tables", ",".join(only)] if only else []
        self.ok("export", "-t", tenant, *words, "--format", "jsonl", "-o", str(folder))
        known = {table.full_name for table in tables if table.concerns(tenant)}
        written = {file.name.removesuffix(".jsonl"): read_jsonl(file) for file in folder.glob("*.jsonl")}
        strange = {name for name, rows in written.items() if rows and name not in known}
        assert not strange, f"export of {tenant} wrote tables that are not its own: {sorted(strange)}"
        return {name: written.get(name, []) for name in known}

    # ---- serve ----

    def setup(self) -> None:
        self.ok("setup")

    def start_serve(self, *words: str) -> None:
        assert not self.serves(), "serve is already running"
        with open(self.logfile, "ab") as log:
            self._serve = subprocess.Popen(
                [str(self._binary), "serve", *words], env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd="/")

    def serves(self) -> bool:
        return self._serve is not None and self._serve.poll() is None

    @property
    def serve_pid(self) -> int:
        assert self._serve is not None, "serve was never started"
        return self._serve.pid

    def wait_ready(self, seconds: float = 60) -> Mapping[str, Any]:
        """Waits until it streams and the archive can answer for every table: `export` does."""
        tenants = [row[0] for row in self.cluster.query("SELECT id::text FROM tenants LIMIT 1", database=self.database)]
        last: list[Result] = []

        def ready() -> Mapping[str, Any] | None:
            assert self.serves(), f"serve ended with {self._serve and self._serve.returncode}\n{self.log_tail()}"
            last[:] = [self.run("status")]
            status = last[0].json
            if status["state"] != "streaming" or open_gaps(status):
                return None
            last.extend(self._export_somewhere(tenant) for tenant in (SHARED, *tenants))
            return status if all(result.code == DONE for result in last) else None

        return wait_for("serve to stream with every table covered", ready, seconds,
                        lambda: "\n".join([*map(str, last), self.log_tail()]), poll_s=0.05)

    def _export_somewhere(self, tenant: str) -> Result:
        with tempfile.TemporaryDirectory(dir=self.logfile.parent) as place:
            return self.run("export", "-t", tenant, "--format", "jsonl", "-o", place)

    def start(self) -> None:
        """setup, serve, and ready to answer."""
        self.setup()
        self.start_serve()
        self.wait_ready()

    def kill9(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait_exit()

    def terminate(self, seconds: float = 30) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_exit(seconds)

    def signal(self, number: int) -> None:
        assert self._serve is not None, "serve was never started"
        self._serve.send_signal(number)

    def wait_exit(self, seconds: float = 30) -> int:
        assert self._serve is not None, "serve was never started"
        try:
            return self._serve.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"serve did not end within {seconds * PATIENCE:.0f} s\n{self.log_tail()}") from None

    def end(self) -> None:
        """For the end of a test, in whatever state: nothing of ours stays behind."""
        if self.serves():
            self.signal(signal.SIGCONT)
            self.kill9()

    def log(self) -> str:
        return self.logfile.read_text(errors="replace") if self.logfile.exists() else ""

    def log_tail(self, lines: int = 60) -> str:
        return "log of serve:\n" + "\n".join(self.log().splitlines()[-lines:])

    # ---- the slot, as the server sees it ----

    def slot(self) -> Mapping[str, Any]:
        rows = self.cluster.query(
            "SELECT slot_name, active, confirmed_flush_lsn::text, restart_lsn::text FROM pg_replication_slots"
            " WHERE database = %s AND NOT temporary AND slot_type = 'logical'", (self.database,))
        assert len(rows) == 1, f"one slot expected for {self.database}, there: {rows}"
        return dict(zip(("name", "active", "confirmed", "restart"), rows[0]))


def open_gaps(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Gaps that no base has closed yet: those without an end. A dropped table's stays open for ever."""
    return [gap for gap in status["gaps"] if gap.get("end_lsn") is None and gap["code"] != "dropped"]


def read_jsonl(file: Path) -> list[Row]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    for row in rows:
        wrong = {column: value for column, value in row.items() if not isinstance(value, str | None)}
        assert not wrong, f"{file.name}: values must be PostgreSQL text or null, not {wrong}"
    return rows
