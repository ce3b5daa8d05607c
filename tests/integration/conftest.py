"""Fixtures of the integration tests. The pieces are in lib/; see its __init__.

A cluster lives as long as its module, a database as long as its test. Tests that restart the server or
need an oracle make their own cluster with `new_cluster`.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable, Iterator

import pytest

from lib.cluster import Cluster
from lib.resume import Resume
from lib.school import School, create_school
from lib.sidecar import Sidecar

# A socket's path holds 108 bytes, so TMPDIR is used only if it is short.
SCRATCH_PATH_BYTES_MAX = 60

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--resume", metavar="FILE", type=Path, help="leave out what passed before, as FILE remembers")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.resume is not None:
        config.pluginmanager.register(Resume(config.option.resume))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`full` and `checked` tests run only when -m asks for them by name."""
    asked = config.option.markexpr or ""
    left_out = [item for item in items
                if any(item.get_closest_marker(name) and name not in asked for name in ("full", "checked"))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """The folder of everything that this session makes. Short, and open to the server's user."""
    parent = os.environ.get("TMPDIR", "/tmp")
    folder = Path(tempfile.mkdtemp(prefix="pgs-it-", dir=parent if len(parent) < SCRATCH_PATH_BYTES_MAX else "/tmp"))
    folder.chmod(0o755)
    yield folder
    if "PGSTRATA_TEST_KEEP" not in os.environ:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(scratch: Path) -> Path:
    """A folder of the test's own."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir=scratch))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    return folder


@pytest.fixture(scope="module")
def new_cluster(scratch: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters that end with the module."""
    made: list[Cluster] = []

    def make(archive: bool = False, **settings: str) -> Cluster:
        place = scratch / f"c{next(_numbers)}"
        cluster = Cluster.create(place, settings, archive)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.remove()


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    """The module's cluster, for tests that leave the server as it is."""
    return new_cluster()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """An empty database of the test's own on the module's cluster."""
    name = f"escola_{next(_numbers)}"
    cluster.create_database(name)
    yield name
    cluster.drop_database(name)


@pytest.fixture
def school(cluster: Cluster, database: str) -> School:
    """The schema and four tenants in the test's database."""
    conn = cluster.connect(database)
    try:
        return create_school(conn)
    finally:
        conn.close()


@pytest.fixture
def new_sidecar(folder: Path) -> Iterator[Callable[..., Sidecar]]:
    """Makes sidecars whose `serve`, if it still runs, ends with the test. Ask for it after `database`, so
    that it is gone before the database is dropped."""
    made: list[Sidecar] = []

    def make(cluster: Cluster, database: str, **how) -> Sidecar:
        sidecar = Sidecar(cluster, database, folder / f"s{len(made)}", **how)
        made.append(sidecar)
        return sidecar

    yield make
    for sidecar in made:
        sidecar.end()


@pytest.fixture
def sidecar(cluster: Cluster, database: str, new_sidecar: Callable[..., Sidecar]) -> Sidecar:
    """pgstrata for the test's database; neither set up nor serving yet."""
    return new_sidecar(cluster, database)


@pytest.fixture
def serving(school: School, sidecar: Sidecar) -> Sidecar:
    """pgstrata set up for the school, streaming, every table covered."""
    sidecar.start()
    return sidecar
