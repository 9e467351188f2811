"""An HTTP server on loopback that keeps files, and misbehaves as it is told."""

import gzip
import hashlib
import sys
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):  # such as a client that went away
            super().handle_error(request, client_address)


class FaultyServer:
    """Serves a folder, with ranges and ETags; a plan says what to do instead, request by request.

    Attributes
    ----------
    plan : dict of str to list of callable
        By file name: what the next requests for it get, each given the handler and the content.
    seen : list of (str, str or None, str or None)
        Name, Range and If-Range of each request.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan: dict[str, list[Callable]] = defaultdict(list)
        self.seen: list[tuple[str, str | None, str | None]] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.partition("?")[0].rpartition("/")[2]
        headers = handler.headers
        with self.lock:
            self.seen.append((name, headers.get("Range"), headers.get("If-Range")))
            behave = self.plan[name].pop(0) if self.plan[name] else honest
        path = self.folder / name
        try:
            if path.is_file():
                behave(handler, path.read_bytes())
            else:
                status(404)(handler, b"")
        except OSError:
            pass  # the client went away


def etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def asked_from(handler: BaseHTTPRequestHandler, content: bytes) -> int:
    """Where the client wants the body to begin."""
    wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    if wanted is None or condition not in (None, etag(content)):
        return 0
    return int(wanted.removeprefix("bytes=").removesuffix("-"))


def send(handler, content, start=0, *, body=None, length=None, tagged=True, headers=()):
    """An answer that is honest but for what is given."""
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    body = content[start:] if body is None else body
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    if tagged:
        handler.send_header("ETag", etag(content))
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def honest(handler, content):
    start = asked_from(handler, content)
    if start >= len(content) > 0:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(content)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    send(handler, content, start)


def status(code, **headers):
    """Answer with a code."""

    def behave(handler, _):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return behave


def drop_after(n_bytes):
    """Close the connection in the middle of the body."""

    def behave(handler, content):
        start = asked_from(handler, content)
        rest = content[start:]
        send(handler, content, start, body=rest[:n_bytes], length=len(rest))
        handler.close_connection = True

    return behave


def claim(n_bytes):
    """Lie about the length, and close after the body."""

    def behave(handler, content):
        send(handler, content, length=n_bytes)
        handler.close_connection = True

    return behave


def ignore_range(handler, content):
    send(handler, content)


def without_length(n_bytes=None):
    """The body ends where the connection does: at its end, or before."""

    def behave(handler, content):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(content[:n_bytes])
        handler.close_connection = True

    return behave


def chunked(n_bytes=None):
    """Transfer-Encoding: chunked, whole or broken off."""

    def behave(handler, content):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        body = content[:n_bytes]
        handler.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        if n_bytes is None:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    return behave


def corrupt(at):
    """Flip a bit of the file."""

    def behave(handler, content):
        damaged = bytearray(content)
        damaged[at] ^= 4
        send(handler, content, body=bytes(damaged)[asked_from(handler, content) :])

    return behave


def other_range(handler, content):
    """Bytes from somewhere else than was asked for."""
    start = asked_from(handler, content) // 2 + 1
    send(handler, content, start)


def hang(seconds):
    """Send half of the file and no more."""

    def behave(handler, content):
        send(handler, content, body=content[: len(content) // 2], length=len(content))
        handler.wfile.flush()
        threading.Event().wait(seconds)
        handler.close_connection = True

    return behave


def endless_redirect(handler, content):
    """To the same place, with a body that does not end."""
    handler.send_response(302)
    handler.send_header("Location", "/else/" + handler.path.rpartition("/")[2])
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(content)
        threading.Event().wait(0.01)


def page(code=200, n_bytes=500):
    """What a network says that wants a password first: a page, of a length that it keeps secret."""

    def behave(handler, _):
        handler.send_response(code)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"<html>".ljust(n_bytes))
        handler.close_connection = True

    return behave


def changed(handler, content):
    """Another file of that length, by a server that knows ranges but no If-Range."""
    start = asked_from(handler, content)
    send(handler, content[::-1], start)


def without_etag(n_bytes):
    """Break off, and give no ETag."""

    def behave(handler, content):
        start = asked_from(handler, content)
        rest = content[start:]
        send(handler, content, start, body=rest[:n_bytes], length=len(rest), tagged=False)
        handler.close_connection = True

    return behave


def longer(handler, content):
    """More than the file has, and no length."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(content + b"more" * 100)
    handler.close_connection = True


def without_range(n_bytes):
    """Begin at the start, whatever was asked for, and drop."""

    def behave(handler, content):
        send(handler, content, body=content[:n_bytes], length=len(content))
        handler.close_connection = True

    return behave


def nameless_range(handler, content):
    """206 without Content-Range."""
    handler.send_response(206)
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    handler.wfile.write(content[:10])


def drip(handler, content):
    """A byte now and then, soon enough for each to be waited for."""
    send(handler, content, body=b"", length=len(content))
    for byte in content[:100]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        threading.Event().wait(0.1)
    handler.close_connection = True


def odd_length(handler, content):
    """A length that no number holds."""
    send(handler, content, length="9" * 5000)
    handler.close_connection = True


def as_it_is(handler, content):
    send(handler, content, headers=[("Content-Encoding", "Identity")])


def encoded(handler, content):
    """Compressed, though that was not asked for."""
    send(handler, content, body=gzip.compress(content), headers=[("Content-Encoding", "gzip")])
