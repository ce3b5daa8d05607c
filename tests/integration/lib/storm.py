"""An HTTP proxy before an object store that behaves as badly as it is told to."""

from __future__ import annotations

import http.client
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Mapping
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}
DELAY_S = 0.3


class Storm:
    """`troubles` says of which part of all requests what becomes: busy (503, undone), lost (done, no answer), cut
    (undone, no answer), torn (half of the answer), slow. It can be changed at any time; {} is fair weather."""

    def __init__(self, endpoint: str, seed: int = 1) -> None:
        self.troubles: Mapping[str, float] = {}
        self.seen: dict[str, int] = {}
        self._to = urlsplit(endpoint)
        self._rng = random.Random(seed)
        self._mutex = threading.Lock()
        self._calm = threading.Event()  # never set before the end: a wait that the end cuts short
        storm = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                storm._pass(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._calm.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _draw(self) -> str:
        with self._mutex:
            chance = self._rng.random()
            for trouble, share in self.troubles.items():
                chance -= share
                if chance < 0:
                    self.seen[trouble] = self.seen.get(trouble, 0) + 1
                    return trouble
        return ""

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        trouble = self._draw()
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        request.close_connection = request.close_connection or trouble != ""
        if trouble == "cut":
            return
        if trouble == "busy":
            answer = b"<Error><Code>SlowDown</Code><Message>storm</Message></Error>"
            self._answer(request, 503, [], answer, len(answer))
            return
        if trouble == "slow":
            self._calm.wait(DELAY_S)
        try:
            status, headers, answer = self._forward(request, body)
        except OSError:
            request.close_connection = True  # the store itself is away
            return
        if trouble != "lost":
            self._answer(request, status, headers, answer, len(answer) // 2 if trouble == "torn" else len(answer))

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        conn = http.client.HTTPConnection(self._to.hostname, self._to.port, timeout=20)
        try:
            conn.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    conn.putheader(name, value)
            conn.endheaders(body)
            answer = conn.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            conn.close()

    @staticmethod
    def _answer(request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes,
                size: int) -> None:
        """The length is told in full, whatever part of the body goes out."""
        request.send_response(status)
        told = False
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                request.send_header(name, value)
                told = told or name.lower() == "content-length"
        if not told:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        try:
            request.wfile.write(body[:size])
        except OSError:
            request.close_connection = True
