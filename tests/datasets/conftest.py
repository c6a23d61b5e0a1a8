"""A web server on this machine that misbehaves as asked."""

from __future__ import annotations

import http.server
import re
import threading

import pytest


class Server:
    """Serves ``content``; each attribute is one way to behave."""

    def __init__(self, address: str):
        self.address = address
        self.content = b""
        self.ranges = True  # answer Range requests
        self.shift = 0  # … with another part than asked for
        self.cuts: list[int] = []  # end the next answers after so many bytes
        self.status = 200
        self.content_type = "application/octet-stream"
        self.hang = threading.Event()
        self.hang.set()
        self.requests: list[str | None] = []  # the Range header of each


@pytest.fixture
def serve():
    """Return a function that starts a server; all are stopped at the end."""
    running = []

    def start(content: bytes = b"", **behaviour) -> Server:
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                answer(self, server)

        httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server = Server(f"http://127.0.0.1:{httpd.server_address[1]}/file")
        server.content = content
        for name, value in behaviour.items():
            getattr(server, name)  # a misspelt behaviour would go unnoticed
            setattr(server, name, value)
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.append((httpd, server))
        return server

    yield start
    for httpd, server in running:
        server.hang.set()
        httpd.shutdown()
        httpd.server_close()


def answer(handler: http.server.BaseHTTPRequestHandler, server: Server) -> None:
    asked = handler.headers.get("Range")
    server.requests.append(asked)
    server.hang.wait(5)
    if server.status != 200:
        handler.send_error(server.status)
        return
    begin = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
    if begin and begin >= len(server.content):
        handler.send_error(416)
        return
    body = server.content[begin:]
    handler.send_response(206 if begin else 200)
    if begin:
        last = len(server.content) - 1
        handler.send_header("Content-Range", f"bytes {begin + server.shift}-{last}/{len(server.content)}")
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("Content-Type", server.content_type)
    handler.end_headers()
    handler.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Let downloads go to a fresh folder; return it."""
    monkeypatch.setenv("TENZOO_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"
