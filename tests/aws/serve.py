"""AWS for tests: moto, with lifecycle hooks, instance metadata, and a record of all calls.

    tests/aws/run.sh tests/aws/serve.py --api 10.77.0.1:8080 --metadata 169.254.169.254:80

README.md describes it.
"""

import argparse
import os
import sys
import threading

# Before moto is imported: it reads them then.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

import balancing
import hooks
import systems
from front import Front
from metadata import Metadata
from record import Record


class Quiet(MotoRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        """The record has it."""


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--api", type=address, default=("127.0.0.1", 8080), help="where all AWS services are")
    parser.add_argument("--metadata", type=address, help="where the metadata service is; none without it")
    parser.add_argument("--region", default="eu-central-1")
    parser.add_argument("--access-key", default="AKIDEXAMPLE", help="of the instances' role")
    parser.add_argument("--secret-key", default="a-secret-key-of-the-tests")
    parser.add_argument("--probe", help="a URL with {address}, got whenever an instance comes into service")
    return parser.parse_args()


def serve(host_and_port, application):
    server = make_server(*host_and_port, application, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main():
    options = arguments()
    record = Record(options.probe)
    fleet = hooks.install(record, options.region)
    managed = systems.install(record, fleet)
    balancing.install(fleet)
    keys = {options.access_key: options.secret_key}
    serve(options.api, Front(DomainDispatcherApplication(create_backend_app), record, fleet, managed, keys))
    if options.metadata:
        serve(options.metadata, Metadata(record, fleet, options))
    print("ready", flush=True)
    # Ends with the process that started it, which holds the other end.
    sys.stdin.read()


if __name__ == "__main__":
    main()
