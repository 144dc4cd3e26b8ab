"""Looks for the marker of another app by every way that a process has, and writes what it
found to $DEPLOY_SHARED. It finds its own, or it would look in the wrong way."""

import ctypes
import glob
import os
import subprocess
import sys

MARKER = b"marker-" + b"in-"
VICTIM = int(os.environ["VICTIM"])
found = set()


def look(data, where):
    if MARKER in data:
        found.add(f"{where}: {data[data.index(MARKER):][:40]!r}")


def read(path, where):
    try:
        with open(path, "rb") as file:
            look(file.read(1 << 20), where)
    except OSError:
        pass


def walk(top, where):
    for directory, _, files in os.walk(top, followlinks=False):
        for name in files:
            path = os.path.join(directory, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            if not path.startswith(os.environ["DEPLOY_SHARED"]):
                read(path, f"{where} {path}")


os.environ["OWN"] = "own-marker"
for pid in [name for name in os.listdir("/proc") if name.isdigit()] + [str(VICTIM)]:
    if int(pid) == os.getpid():
        continue
    for name in ["environ", "mem"]:
        read(f"/proc/{pid}/{name}", name)
    for file in glob.glob(f"/proc/{pid}/fd/*"):
        read(file, "fd")
    walk(f"/proc/{pid}/cwd/.", "cwd")
    walk(f"/proc/{pid}/root/var/lib/deploy", "root")
    walk(f"/proc/{pid}/root/tmp", "root")
for top in ["/var/lib/deploy/apps/victim", "/tmp", "/var/tmp", "/dev/shm", "/run/user", "/var/log"]:
    walk(top, "files")

libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, VICTIM, 0, 0) == 0:
    found.add("ptrace")
    libc.ptrace(17, VICTIM, 0, 0)
for signal in [0, 15, 9]:
    try:
        os.kill(VICTIM, signal)
        found.add(f"signal {signal}")
    except OSError:
        pass
for command in ["journalctl --no-pager", "ipcs -m", "ss -x -p"]:
    ran = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    look(ran.stdout, command)

shared, by = os.environ["DEPLOY_SHARED"], sys.argv[1]
with open(f"{shared}/{by}.new", "w") as out:
    out.write("".join(f"{line}\n" for line in sorted(found)) + "own-marker\n")
os.rename(f"{shared}/{by}.new", f"{shared}/{by}")
