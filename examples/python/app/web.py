"""Serves one page that names the release, and /health."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = Path("VERSION").read_text().strip()
GREETING = os.environ.get("GREETING", "Hello from")


class Page(BaseHTTPRequestHandler):
    # An idle client must not hold up the end.
    timeout = 10

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, "ok\n")
        elif self.path == "/":
            self.answer(200, f"{GREETING} {VERSION}\n")
        else:
            self.answer(404, "no such page\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for the requests under way


def main():
    server = Server(("0.0.0.0", int(os.environ.get("PORT", "5000"))), Page)
    # From a thread: shutdown() waits for serve_forever(), which the signal interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"{VERSION} listens on port {server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print(f"{VERSION} has answered everyone and ends", flush=True)


main()
