"""A web process that listens where $BIND says, or $BIND_2 for web.2: addresses separated by
commas, `[::]!` for IPv6 alone. After $MOVE_AFTER seconds it listens on $MOVE_TO instead.
$HOST is the only Host that it accepts; $REDIRECT is where it sends everybody. With
$NOTIFY it says so many seconds after it listens that it is ready, and what it does."""

import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENV = os.environ.get
NUMBER = ENV("PS", "web.1").rpartition(".")[2]


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        if ENV("HOST") and self.headers["host"] != ENV("HOST"):
            self.send_response(400)
        elif ENV("REDIRECT"):
            self.send_response(301)
            self.send_header("Location", ENV("REDIRECT"))
        else:
            self.send_response(200)
        self.end_headers()
        self.wfile.write(ENV("DEPLOY_RELEASE", "").encode())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self, where):
        address = where.rstrip("!").strip("[]")
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.v6only = where.endswith("!")
        super().__init__((address, int(ENV("PORT"))), Page)

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, self.v6only)
        super().server_bind()


def notify(text):
    target = ENV("NOTIFY_SOCKET").replace("@", "\0", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(text.encode(), target)


def serve(where):
    servers = [Server(one) for one in where.split(",")]
    for server in servers:
        threading.Thread(target=server.serve_forever).start()
    return servers


servers = serve(ENV(f"BIND_{NUMBER}") or ENV("BIND", "0.0.0.0"))
if ENV("NOTIFY"):
    notify("STATUS=warming caches")
    time.sleep(float(ENV("NOTIFY")))
    notify("READY=1\nSTATUS=serving")
if ENV("PINGS"):
    for _ in range(int(ENV("PINGS"))):
        notify("WATCHDOG=1")
        time.sleep(0.5)
    print("pings no more", flush=True)
if ENV("MOVE_TO"):
    time.sleep(float(ENV("MOVE_AFTER", "0")))
    for server in servers:
        server.shutdown()
        server.server_close()
    serve(ENV("MOVE_TO"))
