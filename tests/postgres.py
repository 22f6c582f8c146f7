"""A PostgreSQL server of one's own on a local socket, that tests may kill and start again."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

MISSING = "no PostgreSQL server: apt-get install postgresql (make setup-ops)"


def program(name: str) -> str | None:
    """A program of the server; Debian keeps them off the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))


def why_not() -> str:
    """Why no server can run here; empty: it can."""
    if not program("initdb") or not program("postgres"):
        return MISSING
    if os.geteuid() == 0 and not _user():
        return "PostgreSQL refuses to run as root, and there is no user `postgres`"
    return ""


def _user() -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return ""


class Cluster:
    """The server. It is stopped at first."""

    def __init__(self) -> None:
        # Not in a directory of pytest's: those are the test's user's alone, and a socket's path is short.
        self.directory = Path(tempfile.mkdtemp(prefix="evy-pg-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = _user()
            shutil.chown(self.directory, user, user)
            self._as = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        self._databases = 0
        self.process: subprocess.Popen[bytes] | None = None
        command = [program("initdb") or "", "-D", str(self.directory / "data"), "-U", "evy", "-A", "trust"]
        made = subprocess.run(
            [*self._as, *command, "-E", "UTF8", "--locale=C", "--no-sync"], capture_output=True, check=False
        )
        assert made.returncode == 0, made.stderr.decode()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://evy@/{database}?host={self.directory}"

    def database(self) -> str:
        """Address of a new, empty database."""
        self._databases += 1
        name = f"d{self._databases}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        return self.url(name)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        log = (self.directory / "log").open("ab")
        settings = ["listen_addresses=", f"unix_socket_directories={self.directory}", "shared_buffers=16MB"]
        arguments = [part for setting in settings for part in ("-c", setting)]
        self.process = subprocess.Popen(
            [*self._as, program("postgres") or "", "-D", str(self.directory / "data"), *arguments],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        until = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self.directory / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """kill -9 to all of its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def remove(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()  # nothing of it is wanted any more
        shutil.rmtree(self.directory, ignore_errors=True)
