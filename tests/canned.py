"""A server that answers with what a test puts in its mouth: for what no well-behaved provider sends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeAlias

Chunk: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Canned:
    """One reply: a JSON body, or the events of a stream."""

    body: Any = None
    status: int = 200
    chunks: Sequence[Chunk] | None = None
    is_cut: bool = False
    """The stream ends without its end mark."""


@dataclass(slots=True)
class CannedServer:
    """Gives its replies in order, and keeps the bodies that it was sent."""

    replies: Iterable[Canned]
    requests: list[dict[str, Any]] = field(default_factory=list)
    server: ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        self.replies = iter(self.replies)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()


def _handler(canned: CannedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            canned.requests.append(json.loads(self.rfile.read(length)))
            reply = next(iter(canned.replies))
            content = _stream(reply) if reply.chunks is not None else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            self.send_header("content-type", "application/json" if reply.chunks is None else "text/event-stream")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _stream(reply: Canned) -> bytes:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in reply.chunks or ()]
    return "".join(lines if reply.is_cut else [*lines, "data: [DONE]\n\n"]).encode()
