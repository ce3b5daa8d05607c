"""A scratch PostgreSQL in a temporary folder: reached by its Unix socket only, gone at the end."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time

DATABASE = "sistema_escolar"
SETTINGS = {
    "listen_addresses": "''",
    "wal_level": "logical",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    # It lives for two minutes and no one needs it after a crash.
    "fsync": "off",
    "lc_messages": "'C'",
}
# sun_path holds 108 bytes, and the socket's name takes about twenty of them.
SOCKET_FOLDER_BYTES_MAX = 80


class Failure(Exception):
    """The demo cannot go on; the message says why."""


def scratch_folder(user):
    """A folder that the server's user can reach and whose sockets are short enough."""
    for parent in (os.environ.get("TMPDIR"), "/tmp"):
        if not parent or len(parent) > SOCKET_FOLDER_BYTES_MAX - 20:
            continue
        folder = tempfile.mkdtemp(prefix="pgstrata-demo-", dir=parent)
        if user is None:
            return folder
        os.chown(folder, user.pw_uid, user.pw_gid)
        if subprocess.run(["test", "-w", folder], user=user.pw_uid, group=user.pw_gid,
                          extra_groups=[], check=False).returncode == 0:
            return folder
        os.rmdir(folder)
    raise Failure("no temporary folder that the server's user can write to (TMPDIR, /tmp)")


class Server:
    """initdb, start, stop. As root the server itself runs as user postgres, as it insists."""

    def __init__(self, bindir):
        self.bindir = bindir
        self.user = None
        self.started = False
        if os.geteuid() == 0:
            try:
                self.user = pwd.getpwnam("postgres")
            except KeyError:
                raise Failure("running as root, and there is no user postgres to run the server") from None
        self.folder = scratch_folder(self.user)
        self.data = os.path.join(self.folder, "data")

    def _run(self, *words):
        """Its output goes to a file: a pipe would be held open by the server that pg_ctl leaves."""
        who = {}
        if self.user is not None:
            who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        with tempfile.TemporaryFile() as said:
            done = subprocess.run([os.path.join(self.bindir, words[0]), *words[1:]], stdout=said,
                                  stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd="/",
                                  check=False, **who)
            if done.returncode != 0:
                said.seek(0)
                raise Failure(f"{words[0]} failed:\n{said.read().decode(errors='replace')}")

    def start(self):
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C.UTF-8", "-N")
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a", encoding="utf-8") as conf:
            conf.write(f"unix_socket_directories = '{self.folder}'\n")
            conf.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
        self.started = True
        self._run("pg_ctl", "-D", self.data, "-l", os.path.join(self.folder, "postgresql.log"), "-w", "start")
        self._run("createdb", "-h", self.folder, "-U", "postgres", DATABASE)

    def stop(self):
        try:
            if self.started:
                self._run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")
        except Failure:
            pass  # it never came up, or went down on its own: nothing is left to end
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def wait_for(what, seconds, condition):
    """Polls until `condition()` is true; its truth value is the answer."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failure(f"waited {seconds} s in vain for {what}")
        time.sleep(0.1)
