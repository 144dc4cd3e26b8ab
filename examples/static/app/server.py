"""Serves the files of a directory, and finishes the requests in progress on SIGTERM."""

import functools
import os
import signal
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for the requests in progress
    request_queue_size = 1024


class Files(SimpleHTTPRequestHandler):
    timeout = 10  # an idle client must not delay the end


def main():
    files = functools.partial(Files, directory=sys.argv[1])
    server = Server(("0.0.0.0", int(os.environ.get("PORT", "5000"))), files)
    # In a thread: shutdown() waits for serve_forever(), which the signal interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("has answered everyone and ends")


main()
