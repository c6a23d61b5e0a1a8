"""A server of our own that speaks the hub's protocol, on its good days and on its bad ones."""

import hashlib
import http.server
import os
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``files`` as the repository owner/model; ``fault`` is what goes wrong, ``log`` what was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.fault, self.log = files, None, []
        self.refused: dict[str, int] = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        hub = self.server
        hub.log.append((self.command, self.path, self.headers.get("Authorization"), self.headers.get("Range")))
        if hub.fault == "silence":
            threading.Event().wait(30)
            return
        if isinstance(hub.fault, int):
            code = {404: "RepoNotFound", 401: "RepoNotFound", 403: "GatedRepo"}.get(hub.fault)
            self.reply(hub.fault, b"", {"X-Error-Code": code} if code else {}, with_body)
            return
        parts = self.path.split("?")[0].split("/")
        if parts[1:4] != ["owner", "model", "resolve"]:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        elif parts[4] not in ("main", COMMIT):
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"}, with_body)
        elif parts[5] not in hub.files:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, with_body)
        else:
            self.send_file(parts[5], hub.files[parts[5]], with_body)

    def send_file(self, name, content, with_body):
        large = name.endswith(".safetensors")
        etag = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            if with_body and self.server.fault == "wrong bytes":
                content = bytes(len(content))
        begin = 0
        if with_body and self.headers.get("Range"):
            begin = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        half = (len(content) - begin) // 2 if with_body and large and self.server.fault == "broken off" else None
        self.reply(206 if begin else 200, content[begin:], headers, with_body, half)

    def reply(self, status, content, headers, with_body, stop_after=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content[:stop_after])
        if stop_after is not None:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *arguments):
        """Silence."""


def settings(hub, cache):
    """The environment in which huggingface_hub, which reads it when it is imported, asks this server."""
    return {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "10",
        "HF_HUB_ETAG_TIMEOUT": "20",
    }


def clean_environment():
    """The environment without proxies and without settings of the hub."""
    return {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}
