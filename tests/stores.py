"""An object store on loopback, and what goes wrong between it and us.

The store is moto's S3, which we did not write. Requests reach it through `FaultyStore`, which
passes them on, but for those that a fault was planned for.
"""

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Self

from pyarrow import fs

from tests.servers import QuietServer

BUCKET = "data-bucket"
ATTEMPTS = 2
FOR_EVER = float("inf")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "date"}
HOP_BY_HOP |= {"server"}


@dataclass
class Fault:
    """What happens to some requests.

    Attributes
    ----------
    method : str
        Of the requests.
    inside : str
        What their path and query hold.
    act : callable
        Given the request's handler, its body and `pass_on`, which asks the store.
    times : float
        How many requests it is for.
    """

    method: str
    inside: str
    act: Callable
    times: float = 1
    skip: int = 0


class FaultyStore:
    """Stands before a store.

    Attributes
    ----------
    n_faults : int
        How many requests went wrong as planned.
    seen : list of (str, str)
        Method and path of each request.
    """

    def __init__(self, host: str, port: int) -> None:
        self.store = (host, port)
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []
        self.n_faults = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                outer.answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def plan(self, method: str, inside: str, act: Callable, times: float = 1, skip: int = 0):
        self.faults.append(Fault(method, inside, act, times, skip))

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self.lock:
            self.seen.append((handler.command, handler.path))
            fault = self._fault_for(handler)
            self.n_faults += fault is not None
        try:
            if fault is not None and fault.act is not lost:
                # What concerns the sending of the body must see the body unread.
                fault.act(handler, self)
                return
            status, headers, body = self.pass_on(handler)
            if fault is not None:
                hang_up(handler)
                return
            reply(handler, status, headers, body)
        except OSError:
            pass  # the client went away

    def _fault_for(self, handler: BaseHTTPRequestHandler) -> Fault | None:
        for fault in self.faults:
            if fault.method == handler.command and fault.inside in handler.path:
                if fault.skip > 0:
                    fault.skip -= 1
                elif fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def pass_on(self, handler: BaseHTTPRequestHandler) -> tuple[int, list, bytes]:
        """What the store answers."""
        sent = {k: v for k, v in handler.headers.items() if k.lower() not in HOP_BY_HOP}
        body = request_body(handler)
        connection = http.client.HTTPConnection(*self.store, timeout=20)
        try:
            connection.request(handler.command, handler.path, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


def request_body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    body = b""
    while n_bytes := int(handler.rfile.readline().split(b";")[0], 16):
        body += handler.rfile.read(n_bytes)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def reply(handler, status, headers, body, *, cut=None):
    handler.send_response_only(status)
    length = str(len(body))
    for name, value in headers:
        if name.lower() == "content-length" and handler.command == "HEAD":
            length = value
        elif name.lower() not in HOP_BY_HOP:
            handler.send_header(name, value)
    if status not in (204, 304):
        handler.send_header("Content-Length", length)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body[:cut])


def hang_up(handler):
    handler.wfile.flush()
    handler.close_connection = True


def refused(status: int, code: str, message: str = "As it is."):
    """An error as S3 words it."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{message}</Message><RequestId>1</RequestId></Error>"
    ).encode()

    def act(handler, _):
        request_body(handler)
        reply(handler, status, [("Content-Type", "application/xml")], body)

    return act


def cut_answer(n_bytes: int):
    """The connection breaks in the middle of what is read."""

    def act(handler, store):
        status, headers, body = store.pass_on(handler)
        reply(handler, status, headers, body, cut=n_bytes)
        hang_up(handler)

    return act


def cut_request(n_bytes: int):
    """The connection breaks in the middle of what is written."""

    def act(handler, _):
        handler.rfile.read(n_bytes)
        hang_up(handler)

    return act


def lost(handler, _):
    """The store does as it is asked to, and its answer is lost."""


def silent(handler, store):
    """No answer until the test is over."""
    request_body(handler)
    store.over.wait(60)
    hang_up(handler)


def wrong_length(handler, store):
    """The store says that it holds another number of bytes than it does."""
    status, headers, body = store.pass_on(handler)
    headers = [
        (name, "7" if name.lower() == "content-length" else value) for name, value in headers
    ]
    reply(handler, status, headers, body)


BUSY = refused(503, "SlowDown", "Please reduce your request rate.")


def fill(store, **files):
    for name, content in files.items():
        with store.straight.open_output_stream(f"data-bucket/{name}", compression=None) as stream:
            stream.write(content)


def held(store, name):
    """What the store holds under a name, whoever asks."""
    path = f"data-bucket/{name}"
    if store.straight.get_file_info(path).type == fs.FileType.NotFound:
        return None
    with store.straight.open_input_file(path) as stream:
        return stream.read()


def n_requests(store, method, inside):
    return sum(method == m and inside in path for m, path in store.seen)
