"""Bases and stream meet exactly: bases taken while writers commit without pause, answers right around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest

from lib import targets
from lib.campaign import Campaign
from lib.checks import export_all
from lib.cluster import Cluster, lsn_number, lsn_text
from lib.school import School, create_school
from lib.sidecar import DONE, Sidecar
from lib.wal import Ending
from lib.workload import Workload


def around(lsn: int, commits: list[Ending], width: int) -> list[targets.Target]:
    """The base's own LSN, and just before and just after each of the `width` commits on either side."""
    before = [commit for commit in commits if commit.lsn < lsn][-width:]
    after = [commit for commit in commits if commit.lsn >= lsn][:width]
    found = [targets.at_lsn(lsn)]
    for commit in (*before, *after):
        found += [targets.at_lsn(commit.lsn), targets.at_lsn(commit.next_lsn)]
    return found


@pytest.mark.parametrize("bases, width", [(3, 1), pytest.param(20, 2, marks=pytest.mark.full)])
def test_answers_right_around_each_base_equal_the_oracle(
        bases: int, width: int, new_cluster: Callable[..., Cluster], new_sidecar: Callable[..., Sidecar], folder: Path) -> None:
    cluster = new_cluster(archive=True)
    conn = cluster.connect()
    school = create_school(conn, tenants=3)
    conn.close()
    sidecar = new_sidecar(cluster, "postgres")
    sidecar.start()
    campaign = Campaign(cluster, "postgres", school, sidecar, folder, seed=bases)
    try:
        lsns: list[int] = []

        def take_bases(workload: Workload) -> None:
            for _ in range(bases):
                workload.wait_commits(15)
                answer = sidecar.ok("base")
                named = {table["name"] for table in answer["tables"]}
                # A table that is truncated at that very moment is left to the next base.
                assert named >= {t.full_name for t in school.tables} - {"public.avisos"}, answer
                lsns.append(lsn_number(answer["lsn"]))

        campaign.run(commits=15 * bases + 30, meanwhile=take_bases)
        assert lsns == sorted(set(lsns)), "each base must be newer than the one before"
        # Bases are per table: the LSNs of all of them count, not just the one that the answer names.
        timeline = sidecar.ok("timeline", "-t", school.tenants[0])["items"]
        begin = campaign.endings[0].lsn
        every_base = {lsn_number(item["begin_lsn"]) for item in timeline if item["kind"] == "base"}
        inner = sorted(lsn for lsn in every_base | set(lsns) if begin < lsn <= campaign.commits[-1].lsn)
        assert len(inner) >= bases, f"{len(inner)} bases during the run, not {bases}: {timeline}"
        chosen = {str(target): target for lsn in inner for target in around(lsn, campaign.commits, width)
                  if target.position > begin}
        campaign.compare(chosen.values())
    finally:
        campaign.remove()


def test_a_truncate_between_a_bases_snapshot_and_its_copy_is_noticed(
        cluster: Cluster, database: str, school: School, serving: Sidecar) -> None:
    """TRUNCATE is not MVCC-safe: to an older snapshot the table is empty as soon as it commits. At every
    commit there are five notices, so a base at any LSN must say five."""
    notices = next(table for table in school.tables if table.name == "avisos")
    refill = ("BEGIN; TRUNCATE avisos; INSERT INTO avisos SELECT i, 'rede-00', 'um de cinco'"
              " FROM generate_series(1, 5) AS i; COMMIT")
    cluster.execute(refill, database=database)
    for number in range(5):
        asked = serving.begin("base")
        for _ in range(30):
            cluster.execute(refill, database=database)
        stdout, stderr = asked.communicate(timeout=60)
        assert asked.returncode == DONE, stdout + stderr
        lsn = lsn_number(json.loads(stdout)["lsn"])
        rows = export_all(serving, [notices], ["rede-00"], targets.at_lsn(lsn), only=["avisos"])["rede-00"]
        assert len(rows["public.avisos"]) == 5, f"base {number} at {lsn_text(lsn)}: {rows}"


def test_bases_while_serve_dies_leave_the_archive_exact(
        new_cluster: Callable[..., Cluster], new_sidecar: Callable[..., Sidecar], folder: Path) -> None:
    """A base whose maker was killed must not be seen at all."""
    cluster = new_cluster(archive=True)
    conn = cluster.connect()
    school = create_school(conn, tenants=2)
    conn.close()
    sidecar = new_sidecar(cluster, "postgres")
    sidecar.start()
    campaign = Campaign(cluster, "postgres", school, sidecar, folder, seed=5)
    try:
        def die_in_bases(workload: Workload) -> None:
            for number in range(3):
                workload.wait_commits(10)
                asked = sidecar.begin("base", "--timeout", "1s")
                workload.wait_commits(number)
                sidecar.kill9()
                sidecar.start_serve()
                asked.communicate()

        campaign.run(commits=80, meanwhile=die_in_bases)
        campaign.compare(campaign.targets(8))
        assert sidecar.ok("verify")["valid"]
    finally:
        campaign.remove()
