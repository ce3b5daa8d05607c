"""A MinIO for tests: scripts/minio.py finds or builds it; each test gets a prefix of its own in its bucket."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

_SCRIPT = Path(__file__).resolve().parents[3] / "scripts/minio.py"
_spec = importlib.util.spec_from_file_location("pgstrata_minio", _SCRIPT)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

BUCKET: str = _module.BUCKET
Minio = _module.Minio

_numbers = itertools.count(1)


def s3_settings(server: Minio, endpoint: str | None = None) -> dict[str, str]:
    """The settings of a sidecar whose archive lies there, apart from all others'."""
    return server.keys() | {
        "BACKUP_S3_URL": f"s3://{BUCKET}/t{next(_numbers)}",
        "BACKUP_S3_ENDPOINT": endpoint or server.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def objects(server: Minio, settings: dict[str, str]) -> list[str]:
    """Names of the objects of one archive. MinIO keeps each as a folder of that name."""
    root = server.folder / "data" / settings["BACKUP_S3_URL"].removeprefix("s3://")
    return sorted(str(file.parent.relative_to(root)) for file in root.rglob("xl.meta"))
