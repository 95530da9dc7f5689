"""The listening socket: HTTP/1.1 with keep-alive, a thread for each connection, and the ways a connection can fail."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Event, Lock, Thread
from typing import Any, Final, TypeAlias

_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is to be sent."""

    status: int
    """0: send nothing at all."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: Sequence[bytes] = ()
    """Of a streamed body."""
    is_streamed: bool = False
    media_type: str = "application/json"
    ends: str = "whole"
    """`whole`, `cut`: the connection closes before the body is complete, `hang`: nothing more comes."""


Answering: TypeAlias = Callable[[str, Mapping[str, str], bytes], Reply]
"""From path with query, headers and body to what is to be sent; called from many threads."""


class Listener:
    """Serves on a free loopback port until it is closed."""

    def __init__(self, answer: Answering) -> None:
        self._server = _Server(answer)
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._serve, name=f"simulator-{self.port}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # The poll is how long `shutdown` may have to wait; a test opens and closes many of these.
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        """End all connections and wait until nothing listens any more. A second call does nothing."""
        self._server.closing.set()
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.closing = Event()
        self._connections: set[socket.socket] = set()
        self._lock = Lock()
        super().__init__((_LOOPBACK, 0), _Handler)

    def server_bind(self) -> None:
        # HTTPServer asks the resolver for the host's name here, which may take seconds and needs a network.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = _LOOPBACK, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        with self._lock:
            for connection in self._connections:
                _end(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that went away; anything else is a bug of the simulator, and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without this, a response in two writes waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self._send(self.server.answer(self.path, headers, body))

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: `ProviderSimulator.requests` tells all."""

    def _send(self, reply: Reply) -> None:
        if reply.status == 0:
            return self._hang()
        if reply.is_streamed:
            self._send_stream(reply)
        else:
            self._send_whole(reply)
        return None

    def _send_whole(self, reply: Reply) -> None:
        body = reply.body if reply.ends == "whole" else reply.body[: len(reply.body) // 2]
        self.wfile.write(self._head(reply, {"content-length": str(len(reply.body))}) + body)
        self._end(reply)

    def _send_stream(self, reply: Reply) -> None:
        self.wfile.write(self._head(reply, {"transfer-encoding": "chunked"}))
        for chunk in reply.chunks:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if reply.ends == "whole":
            self.wfile.write(b"0\r\n\r\n")
        self._end(reply)

    def _end(self, reply: Reply) -> None:
        if reply.ends == "hang":
            self._hang()
        elif reply.ends == "cut":
            self.close_connection = True

    def _head(self, reply: Reply, more: Mapping[str, str]) -> bytes:
        reason = self.responses.get(reply.status, ("Site is overloaded", ""))[0]
        headers = {"content-type": reply.media_type, **more, **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _hang(self) -> None:
        self.close_connection = True
        while not self.server.closing.is_set() and not _has_gone(self.connection):
            pass


def _has_gone(connection: socket.socket) -> bool:
    """Say whether the client closed its end; waits some milliseconds for it."""
    readable, _, _ = select.select([connection], [], [], 0.02)
    try:
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster
