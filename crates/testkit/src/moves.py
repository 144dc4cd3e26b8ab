"""What a hostile release does to the machine that it runs on, as the name of a list says:
`build`, `web` or `leave`. Every move is tried, whatever became of the one before; each
says on stdout what it came to. The list grows with what attackers think of."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

SHARED = os.environ["DEPLOY_SHARED"]


def deep(top, levels=40_000):
    """Directories deeper than any path can say, and than a stack can recurse."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def deep_in_tree():
    deep(".")


def deep_in_shared():
    deep(SHARED)


def deep_in_tmp():
    os.makedirs("tmp", exist_ok=True)
    deep("tmp")


def deep_in_own_tmp():
    """Few enough for a small disk."""
    deep("/tmp", 2_000)


def wide():
    """Many entries of one directory, with the longest names."""
    os.makedirs("tmp/wide", exist_ok=True)
    for number in range(20_000):
        open(f"tmp/wide/{number:05}{'n' * 250}", "w").close()


def odd_names():
    for name in [b"\xff\xfe", b"new\nline", b"-rf", b" ", b"\x01" * 200]:
        os.makedirs(os.path.join(SHARED.encode(), b"odd", name), exist_ok=True)


def links_out():
    """What a clean-up that follows links would remove, or give away."""
    for name, target in [("etc", "/etc"), ("root", "/"), (".cache/x", "/etc/passwd")]:
        os.symlink(target, f"{SHARED}/{name}")
    os.rename(f"{SHARED}/.npm", f"{SHARED}/npm")
    os.symlink("/etc", f"{SHARED}/.npm")


def locked_away():
    """Directories that not even their owner can look into."""
    os.makedirs(f"{SHARED}/locked/in", exist_ok=True)
    os.chmod(f"{SHARED}/locked/in", 0)
    os.chmod(f"{SHARED}/locked", 0)


def kill_all_at_once():
    try:
        os.kill(-1, signal.SIGKILL)
    except OSError:
        pass


def kill_everybody():
    """Then everything else, one by one. A thread of its own would end it, too."""
    kill_all_at_once()
    for pid in range(2, 40_000):
        if pid != os.getpid() and pid != os.getppid():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def forks():
    """Until no more come, and each ignores SIGTERM."""
    for _ in range(10_000):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.pause()


def descriptors():
    """Children with as many open files as they may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for _ in range(10):
        if os.fork() == 0:
            for _ in range(min(most, 65_000)):
                try:
                    os.open("/dev/null", os.O_RDONLY)
                except OSError:
                    break
            signal.pause()


def ports():
    """Everything that others listen on, public or private, taken over or beside them."""
    take([*range(5000, 5020), *range(6000, 6020), *range(29000, 29100)])


def private_ports():
    take(range(29000, 29100))


def take(numbers):
    kept = []
    for port in numbers:
        if port == int(os.environ.get("PORT", 0)):
            continue
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            taken.bind(("127.0.0.2", port))
            taken.listen()
            kept.append(taken)
        except OSError:
            taken.close()
    globals().setdefault("KEPT", []).extend(kept)


def control_socket():
    """As many connections to the agent as one process can have."""
    kept = []
    for _ in range(5_000):
        one = socket.socket(socket.AF_UNIX)
        try:
            one.connect("/run/deploy/deployd.sock")
        except OSError:
            one.close()
            break
        kept.append(one)
    globals().setdefault("KEPT", []).extend(kept)


def forged_log():
    """Lines that look like another app's, or the agent's."""
    for identifier in ["deployd", "other1.web.1"]:
        subprocess.run(["logger", "-t", identifier, "forged by hostile"], check=False)


def flood_of_output():
    sys.stdout.write("x" * 4_000_000 + "\n")
    for number in range(20_000):
        print(number)
    sys.stdout.buffer.write(bytes(range(256)) * 64)
    sys.stdout.flush()


def trace():
    libc = ctypes.CDLL(None)
    for pid in range(2, 2_000):
        if pid != os.getpid():
            libc.ptrace(16, pid, 0, 0)


def privileges():
    for command in ["unshare -Ur true", "mount -t tmpfs none /mnt", "nft list ruleset",
                    "sysctl -w kernel.panic=1", "systemctl stop deployd", "reboot -f",
                    "deploy remove other1", "deploy status", "sudo -n true", "su -c true"]:
        subprocess.run(["sh", "-c", command], check=False, stdin=subprocess.DEVNULL,
                       capture_output=True, timeout=20)


def renames():
    """A tree that changes while it is looked at."""
    os.makedirs(f"{SHARED}/loop/a/b", exist_ok=True)
    os.makedirs(f"{SHARED}/loop/c", exist_ok=True)

    def turn():
        while True:
            time.sleep(0.001)
            for source, target in [("a/b", "c/b"), ("c/b", "a/b")]:
                try:
                    os.rename(f"{SHARED}/loop/{source}", f"{SHARED}/loop/{target}")
                except OSError:
                    pass

    threading.Thread(target=turn, daemon=True).start()


def fill_tmp():
    """As much as the build may have: its user's, and not the machine's, to the last byte."""
    try:
        with open("/tmp/full", "wb") as out:
            for _ in range(200):
                out.write(bytes(1 << 20))
    except OSError:
        pass
    os.remove("/tmp/full")


def memory():
    """In a child: the kernel takes the one that has most."""
    if os.fork() == 0:
        held = []
        while True:
            held.append(bytearray(b"x" * (16 << 20)))
    os.wait()


LISTS = {
    "build": [odd_names, links_out, locked_away, wide, fill_tmp, flood_of_output, forged_log,
              privileges, trace, ports, control_socket, deep_in_tmp, deep_in_shared, memory,
              kill_everybody, descriptors, forks, deep_in_tree],
    "web": [odd_names, wide, forged_log, privileges, trace, ports, control_socket, renames,
            flood_of_output, deep_in_tmp, descriptors],
    "leave": [deep_in_shared, deep_in_tmp, wide, locked_away, renames],
}



def make(moves):
    for move in moves:
        try:
            move()
            print(f"{move.__name__}: done", flush=True)
        except BaseException as error:  # pylint: disable=broad-except
            print(f"{move.__name__}: {error!r:.200}", flush=True)


if sys.argv[1] == "beside":
    # What costs little, for hours, beside an app that a test looks at.
    make([odd_names, locked_away, deep_in_own_tmp, control_socket, private_ports, kill_everybody, renames])
    while True:
        make([forged_log, kill_all_at_once])
        time.sleep(1)
make(LISTS[sys.argv[1]])
