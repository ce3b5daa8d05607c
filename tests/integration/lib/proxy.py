"""Proxies before PostgreSQL, for what networks do.

AnswerLosingProxy loses one answer: it passes everything on until a statement comes for the n-th time, passes
that on too, and then ends that session's client side without an answer. CuttingProxy is a wire that is cut: the
server sees its sessions end, their clients hear nothing of it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Iterator

PIECE_BYTES = 65536


class AnswerLosingProxy:
    def __init__(self, folder: Path, port: int, server: Path, statement: str, number: int) -> None:
        self.folder, self.port = folder, port
        self._server = str(server / f".s.PGSQL.{port}")
        text = statement.encode() + b"\0"
        self._trigger = b"Q" + (len(text) + 4).to_bytes(4, "big") + text
        self._until = number
        self.lost = False
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{port}"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                mute = threading.Event()
                threading.Thread(target=self._requests, args=(client, server, mute), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, server, mute), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, mute: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(PIECE_BYTES):
                if self._trigger in piece:
                    with self._lock:
                        self._until -= 1
                        if self._until == 0:
                            self.lost = True
                            mute.set()
                server.sendall(piece)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answers(self, client: socket.socket, server: socket.socket, mute: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(PIECE_BYTES):
                if mute.is_set():
                    break  # the server has done it, and the client shall not know
                client.sendall(piece)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def losing_answers(folder: Path, port: int, server: Path, statement: str,
                   number: int) -> Iterator[AnswerLosingProxy]:
    proxy = AnswerLosingProxy(folder, port, server, statement, number)
    try:
        yield proxy
    finally:
        proxy.close()


class CuttingProxy:
    def __init__(self, folder: Path, port: int, server: Path) -> None:
        self._server = str(server / f".s.PGSQL.{port}")
        self._sockets: list[socket.socket] = []
        self._servers: list[socket.socket] = []
        self._cut = threading.Event()
        self.query_lost = threading.Event()  # a client asked something after the cut
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{port}"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        for each in [self._listener, *self._sockets]:
            each.close()

    def cut(self) -> None:
        """From now on nothing passes, and new sessions find nobody."""
        self._listener.close()
        with self._lock:
            self._cut.set()
            for server in self._servers:
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                with self._lock:
                    self._sockets += [client, server]
                    self._servers.append(server)
                threading.Thread(target=self._pass, args=(client, server), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                if self._cut.is_set() and piece[:1] in (b"Q", b"P"):
                    self.query_lost.set()
                target.sendall(piece)
        if not self._cut.is_set():
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
