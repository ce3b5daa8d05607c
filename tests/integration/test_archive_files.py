"""Damage to the archive's files is found, named, and never turned into wrong rows."""

from __future__ import annotations

import itertools
import random
import stat
from pathlib import Path

import pytest

from lib.checks import physical_rows
from lib.cluster import lsn_number
from lib.school import School
from lib.sidecar import DONE, FAILED, Sidecar
from lib.targets import at_lsn
from lib.workload import Workload

PATIENT = "rede-00"


@pytest.fixture
def archive(serving: Sidecar, school: School) -> Path:
    """An archive with bases and a good many segments; serve has stopped, so that it stands still."""
    with Workload(serving.cluster, serving.database, school.tenants, writers=4) as workload:
        for _ in range(4):
            workload.wait_commits(10)
            serving.flush()
    assert serving.terminate() == DONE
    assert serving.ok("verify")["valid"]
    [place] = (serving.backups / ".pgstrata").iterdir()
    return place


def files_of(archive: Path, folder: str) -> list[Path]:
    return sorted(path for path in (archive / folder).rglob("*") if path.is_file())


def flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 0x40
    file.write_bytes(data)


def assert_damage_is_found(sidecar: Sidecar, file: Path) -> None:
    """verify fails and names the object."""
    result = sidecar.run("verify")
    assert result.code == FAILED, f"damage of {file} was not found\n{result}"
    assert file.name in result.stdout, f"{file.name} is not named\n{result}"


@pytest.mark.parametrize("part", ["seg", "log"])
def test_a_flipped_byte_anywhere_is_found_and_named(serving: Sidecar, archive: Path, part: str) -> None:
    rng = random.Random(part)
    files = files_of(archive, part)
    assert len(files) >= 5, files
    for file in rng.sample(files, 5):
        whole = file.read_bytes()
        for offset in (0, rng.randrange(len(whole)), len(whole) - 1):
            flip(file, offset)
            assert_damage_is_found(serving, file)
            file.write_bytes(whole)
    assert serving.ok("verify")["valid"]


@pytest.mark.parametrize("part", ["seg", "log"])
def test_a_missing_or_short_file_is_found_and_named(serving: Sidecar, archive: Path, part: str) -> None:
    file = files_of(archive, part)[2]
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    assert_damage_is_found(serving, file)
    file.unlink()
    assert_damage_is_found(serving, file)
    file.write_bytes(whole)
    assert serving.ok("verify")["valid"]


def test_restores_and_exports_refuse_damaged_segments_rather_than_give_wrong_rows(
        serving: Sidecar, school: School, archive: Path, folder: Path) -> None:
    lsn = serving.status()["archived_lsn"]
    serving.start_serve()
    serving.wait_ready()
    before = physical_rows(serving.cluster, serving.database, school, school.tenants)
    target = at_lsn(lsn_number(lsn))
    good = serving.export(PATIENT, school.tables, folder / "good", target)
    refused = 0
    for number, (file, eighth) in enumerate(itertools.product(files_of(archive, "seg"), range(1, 8))):
        whole = file.read_bytes()
        flip(file, len(whole) * eighth // 8)
        restore = serving.run("pitr", "-t", PATIENT, "--target-lsn", lsn, "--dry-run")
        export = serving.run("export", "-t", PATIENT, "--target-lsn", lsn, "--format", "jsonl", "-o",
                             str(folder / f"e{number}"))
        # A segment that this tenant does not need may be damaged without harm to it.
        if export.code == DONE:
            again = serving.export(PATIENT, school.tables, folder / f"again{number}", target)
            assert again == good, file
        else:
            assert export.code == FAILED and export.error["code"] == "corrupt", str(export)
            refused += 1
        if restore.code != DONE:
            assert restore.code == FAILED and restore.error["code"] == "corrupt", str(restore)
        file.write_bytes(whole)
    assert refused > 0, "no segment mattered to the tenant"
    assert physical_rows(serving.cluster, serving.database, school, school.tenants) == before


def test_serve_does_not_go_on_from_a_damaged_log(serving: Sidecar, archive: Path) -> None:
    file = files_of(archive, "log")[-1]
    flip(file, len(file.read_bytes()) // 2)
    serving.start_serve()
    assert serving.wait_exit() == FAILED
    assert file.name in serving.log(), serving.log_tail()


def test_the_archive_is_private(archive: Path) -> None:
    for path in [archive, *archive.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path} has mode {mode:o}"


def test_names_of_objects_tell_no_tenant(archive: Path, school: School) -> None:
    for path in archive.rglob("*"):
        assert not any(tenant in path.name for tenant in school.tenants), path
