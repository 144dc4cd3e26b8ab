"""The app of the end-to-end tests: a web process and a worker that behave as
$BEHAVE (web) and $BEHAVE_WORKER say: nothing, or a word, or word=value."""

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KIND = sys.argv[1]
VERSION = open("VERSION").read().strip()
BEHAVIOUR = os.environ.get("BEHAVE" if KIND == "web" else "BEHAVE_WORKER", "")
BEGIN = time.monotonic()
DOES, _, VALUE = BEHAVIOUR.partition("=")


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        late = DOES == "mute-after" and time.monotonic() - BEGIN > float(VALUE)
        if DOES == "mute" or late:
            time.sleep(3600)
        if DOES == "trickle":
            for byte in b"HTTP/1.1 200 OK\r\n\r\n":
                self.wfile.write(bytes([byte]))
                time.sleep(60)
        broken = DOES == "status" and self.path == "/health"
        self.send_response(int(VALUE) if broken else 200)
        self.end_headers()
        self.wfile.write(VERSION.encode())

    def log_message(self, *_):
        pass


def main():
    print(f"{VERSION} {KIND} begins", flush=True)
    if DOES == "crash":
        sys.exit(f"{VERSION} {KIND} is broken")
    if DOES == "crash-after":
        threading.Timer(float(VALUE), end).start()
    if DOES == "crash-when-current":
        threading.Thread(target=end_when_current, daemon=True).start()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if DOES == "ignore-term" else told_to_end)
    if DOES == "hang":
        time.sleep(3600)
    if DOES == "lines":
        for number in range(int(VALUE)):
            print(f"line {number} of {VERSION}")
        sys.stdout.flush()
    if KIND == "web":
        port = int(VALUE) if DOES == "port" else int(os.environ["PORT"])
        ThreadingHTTPServer(("0.0.0.0", port), Page).serve_forever()
    while True:
        signal.pause()


def told_to_end(*_):
    print(f"{VERSION} {KIND} ends", flush=True)
    os._exit(0)


def end_when_current():
    label = os.path.basename(os.path.dirname(os.getcwd()))
    while True:
        time.sleep(0.02)
        try:
            if os.readlink("../../../current") == f"releases/{label}":
                end()
        except FileNotFoundError:
            pass


def end():
    print(f"{VERSION} {KIND} gives up", flush=True)
    os._exit(3)


main()
