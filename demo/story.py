"""The demo's story, in order. run.sh finds the binaries and starts it; see there."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from datetime import datetime, timezone

import psycopg2

import page
import proof
from server import DATABASE, Failure, Server, wait_for
from workload import Workload

HERE = os.path.dirname(os.path.abspath(__file__))
TENANT = "rede-aurora"
ACTOR = "marcos@suporte"  # as accident.sql says
SIGNS = {"insert": "+", "update": "~", "delete": "-"}


class Demo:
    def __init__(self, cleanup):
        self.cleanup = cleanup
        self.pgstrata_binary = os.path.abspath(os.environ["PGSTRATA"])
        self.server = Server(os.environ["PG_BINDIR"])
        cleanup.callback(self.server.stop)
        self.dsn = f"host={self.server.folder} dbname={DATABASE} user=postgres"
        self.settings = {
            "DB_HOST": self.server.folder,
            "DB_NAME": DATABASE,
            "DB_USER": "postgres",
            "BACKUP_DIR": os.path.join(self.server.folder, "backups"),
            "PGSTRATA_FLUSH_INTERVAL": "1s",
        }
        if os.environ.get("STORE") == "s3":
            self.settings |= {
                "BACKUP_S3_URL": os.environ["PGSTRATA_TEST_S3_URL"],
                "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
                "AWS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
            }
        # Nothing of the caller's own database settings may leak into the demo.
        self.environment = {
            name: value for name, value in os.environ.items()
            if not name.startswith(("PG", "DB_", "BACKUP_", "PGSTRATA", "AWS_"))
        } | self.settings
        self.proofs = []

    def connect(self):
        conn = psycopg2.connect(self.dsn, application_name="demo")
        self.cleanup.callback(conn.close)
        return conn

    def run(self, *words, show=True, echo=None):
        """Runs one command, shows it with its output, and fails the demo when it fails."""
        page.command(echo or shlex.join(words))
        binary = self.pgstrata_binary if words[0] == "pgstrata" else os.path.join(self.server.bindir, words[0])
        done = subprocess.run([binary, *words[1:]], env=self.environment, cwd=HERE, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False)
        if done.returncode != 0:
            raise Failure(f"`{shlex.join(words)}` ended with {done.returncode}\n{done.stdout}{done.stderr}")
        if show:
            page.output(done.stdout)
        return done.stdout

    def prove(self, holds, text):
        self.proofs.append(page.proof(bool(holds), text))

    def quiet_json(self, *words):
        """A pgstrata command whose answer only the demo needs; None when it failed."""
        done = subprocess.run([self.pgstrata_binary, *words, "--json"], env=self.environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    # ---- the story -------------------------------------------------------------------------

    def school(self):
        page.step("A school SaaS: 50 school networks in one PostgreSQL database")
        self.server.start()
        for name, value in self.settings.items():
            page.command(f"export {name}={shlex.quote(value)}")
        self.run("psql", "-q", "-h", self.server.folder, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-f",
                 "school.sql", DATABASE, echo="psql -f school.sql")
        conn = self.connect()
        with conn, conn.cursor() as cur:
            cur.execute("SELECT id FROM tenants ORDER BY id")
            self.tenants = [row[0] for row in cur]
            cur.execute(" UNION ALL ".join(
                f"SELECT '{table}', count(*), count(*) FILTER (WHERE {proof.tenant_column(table)} = '{TENANT}')"
                f" FROM {table}" for table in proof.TABLES))
            rows = cur.fetchall()
        self.conn = conn
        page.table(("table", "rows", TENANT), [(t, page.count(n), page.count(own)) for t, n, own in rows],
                   right=("rows", TENANT))
        page.say(f"{page.count(sum(row[1] for row in rows))} rows in all.")

    def setup(self):
        page.step("Prepare the database: publication, slot, triggers")
        self.run("pgstrata", "setup")

    def serve(self):
        page.step("Start the archiver beside it, and an ordinary school morning")
        page.command("pgstrata serve &")
        log = open(os.path.join(self.server.folder, "serve.log"), "w+b")
        sidecar = subprocess.Popen([self.pgstrata_binary, "serve"], env=self.environment,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        self.cleanup.callback(log.close)
        self.cleanup.callback(end_process, sidecar)
        self.workload = Workload(self.dsn, self.tenants)
        self.cleanup.callback(self.workload.stop)
        self.workload.start()

        def ready():
            self.workload.check()
            if sidecar.poll() is not None:
                log.seek(0)
                raise Failure("pgstrata serve ended:\n" + log.read().decode(errors="replace")[-3000:])
            timeline = self.quiet_json("timeline", "-t", TENANT)
            return timeline and sum(item["kind"] == "base" for item in timeline["items"]) >= len(proof.TABLES)

        wait_for("the first base of every table", 60, ready)
        page.say("A first copy of every table, and from there on every change:")
        self.run("pgstrata", "timeline", "-t", TENANT)
        page.say(f"Meanwhile {len(self.workload.committed())} transactions of {len(self.tenants)} tenants; "
                 "they go on until the end.")

    def accident(self):
        page.step(f"The accident: a support script runs with two mistakes, for {TENANT}")
        self.serve_some(3.0)
        # From here to the proof the application keeps this tenant paused, so that there is a state
        # to compare with. No other tenant waits.
        self.pause = self.connect()
        with self.pause, self.pause.cursor() as cur:
            cur.execute("SELECT pg_advisory_lock(hashtext(%s))", (TENANT,))
        self.before = proof.checksums(self.conn, TENANT)
        self.ids = proof.keys(self.conn, TENANT)
        self.run("psql", "-At", "-e", "-h", self.server.folder, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-f",
                 "accident.sql", DATABASE, echo="psql -e -f accident.sql")
        self.damaged = proof.checksums(self.conn, TENANT)
        page.say("What is left:")
        page.table(("table", "rows before", "rows now", "content"),
                   [(t, page.count(self.before[t][0]), page.count(self.damaged[t][0]),
                     "same" if self.before[t] == self.damaged[t] else "CHANGED") for t in proof.TABLES],
                   right=("rows before", "rows now"))
        self.serve_some(2.0)

    def serve_some(self, seconds):
        """Lets the morning go on for a while: the workload is what the demo waits for."""
        begin = time.monotonic()
        wait_for("the workload", 30, lambda: time.monotonic() - begin > seconds
                 and len(self.workload.committed(begin)) > 20)
        self.workload.check()

    def find(self):
        page.step("Find the moment: what happened to this tenant lately?")
        since = datetime.fromtimestamp(self.began, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = json.loads(self.run("pgstrata", "history", "-t", TENANT, "--from", since, "--limit", "100000",
                                     "--json", show=False))
        changes = defaultdict(Counter)
        facts = {}
        for item in answer["items"]:
            changes[item["xid"]][item["table"].split(".")[-1], item["op"]] += 1
            facts[item["xid"]] = item
        by_size = sorted(changes, key=lambda xid: -changes[xid].total())
        page.say(f"{page.count(len(answer['items']))} changes in {len(changes)} transactions; the largest:")
        page.table(("commit time", "xid", "actor", "changes"),
                   [(facts[xid]["commit_time"], xid, facts[xid]["actor"] or "-",
                     ", ".join(f"{table} {SIGNS[op]}{n}" for (table, op), n in changes[xid].most_common()))
                    for xid in by_size[:4]])
        self.culprit = by_size[0]
        actor = facts[self.culprit]["actor"]
        page.say(f"There it is: transaction {self.culprit}, by {actor}.")
        if actor != ACTOR:
            raise Failure(f"the actor should have been {ACTOR}")

    def preview(self):
        page.step("Preview: what would going back to just before it change?")
        words = ("pgstrata", "pitr", "-t", TENANT, "--before-xid", str(self.culprit), "--dry-run")
        self.run(*words, "--samples", "1")
        # The same again for the demo itself: the plan to apply, and the numbers to check.
        self.planned = self.quiet_json(*words[1:])
        if self.planned is None:
            raise Failure("the preview gave no plan")
        if proof.checksums(self.conn, TENANT) != self.damaged:
            raise Failure("a dry run changed the tenant")

    def restore(self):
        page.step(f"Put {TENANT} back, by that very plan, while the others keep writing")
        self.referee = proof.Referee(self.conn)
        self.restore_began = time.monotonic()
        self.run("pgstrata", "pitr", "-t", TENANT, "--before-xid", str(self.culprit), "--plan",
                 self.planned["plan"], "--samples", "0", "--yes")
        self.restore_ended = time.monotonic()
        page.say(f"Took {self.restore_ended - self.restore_began:.2f} s, from the program's start to its end.")

    def prove_it(self):
        page.step("Proof, by PostgreSQL and not by pgstrata")
        after = proof.checksums(self.conn, TENANT)
        page.table(("table", "rows", "SHA-256 before the accident", "SHA-256 now"),
                   [(t, page.count(after[t][0]), self.before[t][1][:24] + "...", after[t][1][:24] + "...")
                    for t in proof.TABLES], right=("rows",))
        self.prove(after == self.before,
                   f"{TENANT} is what it was before the accident, every column of "
                   f"{page.count(sum(rows for rows, _ in after.values()))} rows")

        # The accident updated every produto, so the latest writer of each one is the restore.
        writers = proof.writers(self.conn, TENANT, "produtos")
        self.prove(len(writers) == 1, f"one transaction did it: {', '.join(map(str, writers))}")
        if len(writers) == 1:
            self.prove_innocence(writers[0])
        self.prove_others_kept_writing()

    def prove_innocence(self, xid):
        written = self.planned["inserted"] + self.planned["updated"]
        own, others = proof.rows_written_by(self.conn, TENANT, xid)
        self.prove(others == 0 and own == written,
                   f"rows that carry it (xmin): {page.count(own)} of {TENANT}, {others} of any other tenant")
        own, foreign = self.referee.verdict(TENANT, xid, self.ids)
        self.prove(not foreign and own == written + self.planned["deleted"],
                   f"changes that the server itself decodes from it: {page.count(own)} to {TENANT}, "
                   f"{len(foreign)} to anything else")

    def prove_others_kept_writing(self):
        self.workload.check()
        during = self.workload.committed(self.restore_began, self.restore_ended)
        others = [item for item in during if item[1] != TENANT]
        slowest = max((seconds for _, _, seconds in others), default=0.0)
        self.prove(others, f"during the restore: {len(others)} transactions of other tenants, "
                           f"the slowest {slowest * 1000:.0f} ms")

    def tell(self):
        self.began = time.time()
        self.school()
        self.setup()
        self.serve()
        self.accident()
        self.find()
        self.preview()
        self.restore()
        self.prove_it()
        print()
        if not all(self.proofs):
            raise Failure("not every proof holds")
        page.say(page.paint("bold", f"One tenant went back in time; {len(self.tenants) - 1} others never noticed.")
                 + page.paint("dim", f"  ({time.time() - self.began:.0f} s in all; cleaning up)"))


def end_process(process):
    """SIGTERM, and the end of patience after ten seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main():
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: sys.exit(128 + n))
    page.title("pgstrata: one tenant goes back in time, the others keep working",
               "Everything below happens on a scratch PostgreSQL in a temporary folder.")
    try:
        with contextlib.ExitStack() as cleanup:
            try:
                Demo(cleanup).tell()
            finally:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not stop the cleanup
    except Failure as failure:
        sys.stdout.flush()
        print(f"\ndemo: {failure}", file=sys.stderr)
        return 1
    except psycopg2.Error as failure:
        sys.stdout.flush()
        print(f"\ndemo: the database said: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything is cleaned up", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
