"""An oracle campaign: writers run, targets are chosen from what they did, and at every target the archive's
answer for every tenant must be PostgreSQL's own.

    campaign = Campaign(cluster, database, school, sidecar, folder, seed=1)
    campaign.run(commits=300)             # or with kills=10
    campaign.compare(campaign.targets(30))
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Callable, Iterable, Sequence

from lib import targets as moments
from lib import wal
from lib.checks import export_all
from lib.cluster import Cluster
from lib.oracle import Oracle
from lib.rows import SHARED, Table, differences, read_all, tables_of
from lib.school import School
from lib.reforms import Reforms
from lib.sidecar import REFUSED, Sidecar, read_jsonl
from lib.targets import Target
from lib.workload import ACROSS_TENANTS, EVERYDAY, Operation, Workload

FAILURES_SHOWN = 3


class Campaign:
    """The sidecar must be set up and ready: coverage has to begin before the first target."""

    def __init__(self, cluster: Cluster, database: str, school: School, sidecar: Sidecar, folder: Path,
                 seed: int) -> None:
        self.cluster = cluster
        self.database = database
        self.school = school
        self.sidecar = sidecar
        self.seed = seed
        self._rng = random.Random(seed)
        self._oracle = Oracle.take(cluster, folder / "oracle")
        self._begin = cluster.insert_lsn()
        self.endings: list[wal.Ending] = []
        self.covered: set[int] = set()  # transactions that changed covered tables
        self.boundaries: list[int] = []  # LSNs that clients saw
        self._restore_points: list[str] = []
        self._reforms: list[int] = []  # LSNs right after a change of tables

    def remove(self) -> None:
        self._oracle.remove()

    def run(self, commits: int, kills: int = 0, operations: Sequence[Operation] = EVERYDAY + ACROSS_TENANTS,
            meanwhile: Callable[[Workload], None] = lambda workload: None) -> None:
        """Writers go on until they have committed `commits` transactions; `kills` times in between serve dies
        by kill -9 and is started anew. `meanwhile` may do more, while they write."""
        with Workload(self.cluster, self.database, self.school.tenants, self.seed, operations=operations) as workload:
            for number in range(kills):
                workload.wait_commits(self._rng.randrange(commits // kills))
                if self._rng.random() < 0.5:
                    self.restore_point(f"ponto-{number}")
                self.sidecar.kill9()
                self.sidecar.start_serve()
            meanwhile(workload)
            workload.wait_commits(max(0, commits - len(workload.committed)))
        self.sidecar.wait_ready()
        self._close(workload)

    def reform(self, workload: Workload, count: int) -> None:
        """Tables change their shape, meanwhile."""
        with Reforms(self.cluster, self.database, self.school.tenants, self.seed) as reforms:
            reforms.wait(count)
        self._reforms = reforms.boundaries
        workload.check()

    def restore_point(self, name: str) -> None:
        self.sidecar.ok("restore-point", "create", name)
        self._restore_points.append(name)

    def _close(self, workload: Workload) -> None:
        """One more commit, so that every target has something after it; then all WAL into the archive folder."""
        with self.cluster.session(self.database) as cur:
            cur.execute("UPDATE moedas SET cambio = 0 WHERE codigo = 'BRL'")
        self.sidecar.flush()
        end = self.cluster.insert_lsn()
        self.cluster.switch_wal()
        self.endings = wal.endings(self.cluster, self._begin, end)
        self.covered = {commit.xid for commit in workload.committed}
        self.boundaries = [commit.insert_lsn_after for commit in workload.committed if commit.insert_lsn_after]
        self.boundaries += self._reforms

    @property
    def commits(self) -> list[wal.Ending]:
        return [ending for ending in self.endings if ending.commit and ending.xid in self.covered]

    def targets(self, count: int) -> list[Target]:
        """All kinds, all over the run, and every restore point."""
        spread = moments.spread(self.endings, self.covered, self.boundaries, count, self._rng)
        return moments.in_order([*spread, *self._named_targets()])

    def _named_targets(self) -> list[Target]:
        """A restore point is the commit that left it; where that is, the WAL says."""
        xids = {item["name"]: item["xid"] for item in self.sidecar.ok("restore-point", "list")["items"]}
        assert set(self._restore_points) <= xids.keys(), f"{self._restore_points} are not all in {xids}"
        commits = {ending.xid: ending for ending in self.endings if ending.commit}
        return [moments.at_name(name, commits[xids[name]].next_lsn) for name in self._restore_points]

    def compare(self, targets: Iterable[Target]) -> None:
        """Visits every target, and fails at the end with what differed, so that one run shows the pattern."""
        everyone = [*self.school.tenants, SHARED]
        failures: list[str] = []
        visited = 0

        def look(target: Target, recovered: Cluster) -> None:
            nonlocal visited
            visited += 1
            with recovered.session(self.database) as cur:
                expected = read_all(cur, self.school.tables, everyone)
            answer = export_all(self.sidecar, self.school.tables, everyone, target)
            for tenant in everyone:
                found = differences(expected[tenant], answer[tenant])
                if found:
                    failures.append("\n".join([f"{target}, {tenant}:", *found]))

        self._oracle.visit(targets, look)
        assert not failures, (
            f"seed {self.seed}: {len(failures)} of {visited * len(everyone)} answers differ from PostgreSQL's own"
            " recovery:\n" + "\n".join(failures[:FAILURES_SHOWN]))

    def compare_or_refused(self, targets: Iterable[Target]) -> tuple[int, int]:
        """As compare, for tables that change their shape: each table of each tenant is answered as PostgreSQL's
        recovery has it, in the shape of then, or refused as outside coverage. Returns how many of each."""
        everyone = [*self.school.tenants, SHARED]
        failures: list[str] = []
        answered = refused = 0

        def look(target: Target, recovered: Cluster) -> None:
            nonlocal answered, refused
            with recovered.session(self.database) as cur:
                tables = [table for table in tables_of(cur) if self._is_covered(table)]
                expected = read_all(cur, tables, everyone)
            for tenant in everyone:
                known = [table for table in tables if table.concerns(tenant)]
                answer, missing = self._answers(tenant, known, target)
                found = differences({name: rows for name, rows in expected[tenant].items() if name in answer}, answer)
                answered += len(answer)
                refused += missing
                if found:
                    failures.append("\n".join([f"{target}, {tenant}:", *found]))

        self._oracle.visit(targets, look)
        assert not failures, (
            f"seed {self.seed}: {len(failures)} answers differ from PostgreSQL's own recovery:\n"
            + "\n".join(failures[:FAILURES_SHOWN]))
        return answered, refused

    def _is_covered(self, table: Table) -> bool:
        return table.name.startswith("nova_") or any(
            (table.schema, table.name) == (known.schema, known.name) for known in self.school.tables)

    def _answers(self, tenant: str, tables: Sequence[Table], target: Target) -> tuple[dict, int]:
        """All tables at once; one by one where some are refused."""
        whole = self._export(tenant, [], tables, target)
        if whole is not None:
            return whole, 0
        answer: dict = {}
        refused = 0
        for table in tables:
            one = self._export(tenant, ["--tables", table.full_name], [table], target)
            refused += one is None
            answer |= one or {}
        return answer, refused

    def _export(self, tenant: str, words: list[str], tables: Sequence[Table], target: Target) -> dict | None:
        with tempfile.TemporaryDirectory(dir=self.sidecar.logfile.parent) as scratch:
            result = self.sidecar.run("export", "-t", tenant, *target.export_words(), *words, "--format", "jsonl",
                                      "-o", scratch)
            if result.code == REFUSED:
                assert result.error["code"] == "outside_coverage", str(result)
                return None
            assert result.code == 0, str(result)
            written = {file.name.removesuffix(".jsonl"): read_jsonl(file) for file in Path(scratch).glob("*.jsonl")}
        known = {table.full_name for table in tables}
        strange = {name for name, rows in written.items() if rows and name not in known}
        assert not strange, f"{target}: export of {tenant} wrote {sorted(strange)}, known are {sorted(known)}"
        return {name: written.get(name, []) for name in known}
