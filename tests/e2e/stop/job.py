"""A process that counts the signals it gets: it notes each of them, works for a second
more after the first, and notes that its job is done. With a port it also answers requests,
`/slow` after two seconds, and ends when it has answered the ones it has."""

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = os.environ["PS"].partition(".")[0]
RELEASE = os.environ["DEPLOY_RELEASE"]
NOTES = os.path.join(os.environ.get("DEPLOY_SHARED") or os.environ["HOME"], "notes")
SIGNAL = getattr(signal, os.environ.get("ENDS_AT", "SIGTERM"))
ending = threading.Event()


def note(what):
    notes = os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(notes, f"{RELEASE} {NAME} {what}\n".encode())
    os.close(notes)
    print(what, flush=True)


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(2)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(RELEASE.encode())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False


def told(number, _):
    note("signal")
    ending.set()


signal.signal(SIGNAL, told)
note("begins")
if len(sys.argv) > 1 and sys.argv[1] == "serve":
    server = Server(("0.0.0.0", int(os.environ["PORT"])), Page)
    threading.Thread(target=server.serve_forever).start()
    while not ending.wait(3600):
        pass
    server.shutdown()
    server.server_close()
else:
    while not ending.wait(3600):
        pass
    end = time.monotonic() + 1
    while time.monotonic() < end:
        time.sleep(0.05)
note("done")
