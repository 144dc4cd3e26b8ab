"""Does a job every few seconds and counts them, across releases, in $DEPLOY_SHARED."""

import os
import signal
import threading
from pathlib import Path

VERSION = Path("VERSION").read_text().strip()
COUNT = Path(os.environ.get("DEPLOY_SHARED", "."), "jobs-done")

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())

done = int(COUNT.read_text()) if COUNT.exists() else 0
while not stop.wait(5):
    done += 1
    new = COUNT.with_suffix(".new")
    new.write_text(f"{done}\n")
    new.replace(COUNT)
    print(f"{VERSION} did job {done}", flush=True)
print(f"{VERSION} finished its job and ends", flush=True)
