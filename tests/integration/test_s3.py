"""The archive on S3: a real MinIO, killed, held still, and behind a storm, while the database works on."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

from lib.bucket import Minio, objects, s3_settings
from lib.campaign import Campaign
from lib.checks import assert_archive_equals_live, live_rows
from lib.cluster import Cluster
from lib.rows import assert_same_rows
from lib.school import School, create_school
from lib.sidecar import DONE, FAILED, USAGE, Sidecar
from lib.storm import Storm
from lib.wait import PATIENCE, wait_for
from lib.workload import Workload

TENANT = "rede-01"
MIB = 1 << 20
STORM = ("busy", "lost", "cut", "torn", "slow")


@pytest.fixture(scope="module")
def module_minio(scratch: Path) -> Iterator[Minio]:
    server = Minio(tempfile.mkdtemp(prefix="minio", dir=scratch))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def minio(module_minio: Minio) -> Iterator[Minio]:
    """Running at the test's begin, whatever the one before did to it."""
    yield module_minio
    if module_minio.process is None:
        module_minio.start()
    module_minio.process.send_signal(signal.SIGCONT)


@pytest.fixture
def on_s3(minio: Minio, cluster: Cluster, database: str, school: School,
          new_sidecar: Callable[..., Sidecar]) -> Sidecar:
    sidecar = new_sidecar(cluster, database, settings=s3_settings(minio))
    sidecar.start()
    return sidecar


# ---- the everyday ----

def test_an_accident_is_undone_from_a_bucket(on_s3: Sidecar, minio: Minio, school: School) -> None:
    before = live_rows(on_s3.cluster, on_s3.database, school)
    on_s3.flush()
    moment = on_s3.cluster.query_value("SELECT clock_timestamp()::text")
    on_s3.cluster.execute("DELETE FROM escolas WHERE tenant_id = %s", (TENANT,), on_s3.database)
    answer = on_s3.pitr(TENANT, "--target-time", moment)
    assert answer["inserted"] > 0 and answer["deleted"] == 0, answer
    after = live_rows(on_s3.cluster, on_s3.database, school)
    for tenant, rows in before.items():
        assert_same_rows(rows, after[tenant], f"{tenant}, after the restore against before the accident")
    assert on_s3.ok("verify")["valid"] and on_s3.ok("verify", "--live")["valid"]
    assert on_s3.ok("base")["tables"], "a base on request"
    assert_archive_equals_live(on_s3, school)
    names = objects(minio, on_s3.environment)
    assert any("/log/" in name for name in names) and not any("probe" in name for name in names), names
    assert not on_s3.backups.exists(), "nothing beside the bucket"


def test_the_oracle_agrees_through_kills(minio: Minio, new_cluster: Callable[..., Cluster], folder: Path,
                                         new_sidecar: Callable[..., Sidecar]) -> None:
    cluster = new_cluster(archive=True)
    conn = cluster.connect()
    school = create_school(conn, tenants=2, students=8)
    conn.close()
    sidecar = new_sidecar(cluster, "postgres", settings=s3_settings(minio))
    sidecar.start()
    campaign = Campaign(cluster, "postgres", school, sidecar, folder, seed=11)
    try:
        campaign.run(commits=80, kills=3)
        campaign.compare(campaign.targets(8))
    finally:
        campaign.remove()


# ---- what cannot work says so ----

def test_wrong_keys_and_absent_buckets_are_named(on_s3: Sidecar) -> None:
    secret = "wrong" * 8
    error = on_s3.refuses(FAILED, "verify", environment={"AWS_SECRET_ACCESS_KEY": secret})
    assert "403" in error["message"] and secret not in str(error) and "keys" in error["hint"], error
    error = on_s3.refuses(FAILED, "verify", environment={"BACKUP_S3_URL": "s3://no-such-bucket/x"})
    assert "NoSuchBucket" in error["message"] and "no-such-bucket" in error["hint"], error
    none = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "HOME": "/nowhere"}
    error = on_s3.refuses(FAILED, "verify", environment=none)
    assert "no keys" in error["message"], error
    error = on_s3.refuses(USAGE, "verify", environment={"BACKUP_S3_STYLE": "round"})
    assert "style" in error["message"], error


def test_a_flag_is_stronger_than_the_bucket(on_s3: Sidecar, folder: Path) -> None:
    error = on_s3.refuses(FAILED, "verify", "--backup-dir", str(folder / "no" / "such"))
    assert str(folder) in error["message"], error
    assert on_s3.ok("verify", "--backup-dir", f"{on_s3.environment['BACKUP_S3_URL']}?region=us-east-1")["valid"]


# ---- the store comes and goes ----

def test_an_outage_under_load_loses_nothing(on_s3: Sidecar, minio: Minio, school: School) -> None:
    """Writers are not held up, status answers, a restore says why it cannot; then all is archived."""
    with Workload(on_s3.cluster, on_s3.database, school.tenants, writers=4) as workload:
        workload.wait_commits(20)
        minio.stop(kill=True)
        workload.wait_commits(40)
        wait_for("serve to say that the store fails", lambda: "storage_down" in on_s3.log(), 30, on_s3.log_tail)
        status = on_s3.run("status").json
        assert status["state"] and status["archive_error"], status
        lsn = on_s3.cluster.insert_lsn()
        error = on_s3.refuses(FAILED, "pitr", "-t", TENANT, "--target-lsn", lsn, "--yes")
        assert error["code"] == "store", error
        assert on_s3.serves(), on_s3.log_tail()
        minio.start()
        workload.wait_commits(20)
    on_s3.wait_ready()
    assert_archive_equals_live(on_s3, school)
    assert "storage_back" in on_s3.log(), on_s3.log_tail()
    assert on_s3.ok("verify")["valid"]


@pytest.mark.parametrize("how", ["killed", "held"])
def test_stop_returns_in_time_while_the_store_is_gone(on_s3: Sidecar, minio: Minio, how: str) -> None:
    if how == "killed":
        minio.stop(kill=True)
    else:
        minio.process.send_signal(signal.SIGSTOP)
    on_s3.cluster.execute("INSERT INTO avisos VALUES (1000000001, 'rede-00', 'x')", database=on_s3.database)
    wait_for("serve to say that the store fails", lambda: "storage_down" in on_s3.log(), 40, on_s3.log_tail)
    begin = time.monotonic()
    assert on_s3.terminate() == DONE, on_s3.log_tail()
    assert time.monotonic() - begin < 10 * PATIENCE, on_s3.log_tail()


def test_a_storm_loses_nothing_and_stays_within_memory(minio: Minio, cluster: Cluster, database: str, school: School,
                                                       new_sidecar: Callable[..., Sidecar]) -> None:
    """503s, lost answers, cut connections, torn and slow ones, for two fifths of all requests."""
    storm = Storm(minio.endpoint)
    try:
        sidecar = new_sidecar(cluster, database, settings=s3_settings(minio, storm.endpoint)
                              | {"PGSTRATA_MEMORY": "64MiB", "PGSTRATA_FLUSH_INTERVAL": "50ms"})
        sidecar.start()
        storm.troubles = dict.fromkeys(STORM, 0.08)
        with Workload(cluster, database, school.tenants, writers=4) as workload:
            workload.wait_commits(100)
            wait_for("each kind of trouble", lambda: len(storm.seen) == len(STORM), 60, lambda: storm.seen)
        sidecar.flush()
        storm.troubles = {}
        sidecar.environment["BACKUP_S3_ENDPOINT"] = minio.endpoint
        assert_archive_equals_live(sidecar, school)
        assert sidecar.ok("verify")["valid"] and sidecar.serves(), sidecar.log_tail()
        status = Path(f"/proc/{sidecar.serve_pid}/status").read_text()
        peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
        assert peak <= (64 + 64) * MIB or "asan" in str(sidecar._binary), f"{peak / MIB:.0f} MiB at the most"
    finally:
        storm.close()
