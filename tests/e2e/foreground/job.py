"""A job that writes down each signal that asks it to end, and needs a moment to."""

import os
import signal
import sys
import time

NAME = sys.argv[1] if len(sys.argv) > 1 else os.environ["PS"]


def note(text):
    with open(f"/var/tmp/jobs/{NAME}", "a") as file:
        file.write(text + "\n")


def told(number, _):
    note(signal.Signals(number).name)
    end.append(time.monotonic() + 1)


end = []
for number in signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP:
    signal.signal(number, told)
note("begun")
while not end or time.monotonic() < end[0]:
    time.sleep(0.05)
note("done")
