"""Takes one job after the other; on SIGTERM it finishes the current job."""

import os
import signal
import threading

GREETING = os.environ["GREETING"]
ending = threading.Event()


def end(number, frame):
    print("SIGTERM", flush=True)
    ending.set()


signal.signal(signal.SIGTERM, end)
number = 0
while not ending.is_set():
    number += 1
    print(f"{GREETING} job {number} begun", flush=True)
    # The work of a job; a signal does not shorten it.
    threading.Event().wait(1.5)
    print(f"{GREETING} job {number} done", flush=True)
print("bye", flush=True)
