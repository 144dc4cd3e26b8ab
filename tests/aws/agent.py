"""What the SSM agent does on an instance: it fetches commands, and runs each as root by a shell.

    python3 agent.py http://10.77.0.1:8080 [INSTANCE-ID]

Without an id it asks the instance metadata service for it. It needs nothing but Python.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

METADATA = "http://169.254.169.254/latest/"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# What the agent keeps of a command's output.
LONGEST = 24000
RUNNING = {}


def ask(url, body=None, method=None, headers=None):
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    with OPENER.open(request, timeout=30) as answer:
        return answer.read()


def instance_id():
    token = ask(METADATA + "api/token", method="PUT", headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "60"})
    headers = {"X-Aws-Ec2-Metadata-Token": token.decode()}
    return ask(METADATA + "meta-data/instance-id", headers=headers).decode()


def run(own, work):
    shell = subprocess.Popen(
        ["sh", "-c", work["script"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )
    RUNNING[work["command"]] = shell
    timed_out = False
    try:
        out, err = shell.communicate(timeout=work["timeout"])
    except subprocess.TimeoutExpired:
        timed_out = True
        end(shell)
        out, err = shell.communicate()
    code = shell.returncode if shell.returncode >= 0 else 128 - shell.returncode
    if code:
        err += b"failed to run commands: exit status %d" % code
    ended = {
        "command": work["command"], "code": code, "timed_out": timed_out,
        "out": out.decode(errors="replace")[:LONGEST], "err": err.decode(errors="replace")[:8000],
    }
    RUNNING.pop(work["command"], None)
    while True:
        try:
            return ask(own + "/ended", json.dumps(ended).encode())
        except OSError:
            time.sleep(0.2)


def end(shell):
    try:
        os.killpg(shell.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def main():
    own = f"{sys.argv[1]}/_agent/{sys.argv[2] if len(sys.argv) > 2 else instance_id()}"
    while True:
        try:
            work = json.loads(ask(own + "/next"))
        except (OSError, ValueError):
            time.sleep(0.2)
            continue
        if work and "cancel" in work:
            shell = RUNNING.get(work["cancel"])
            if shell:
                end(shell)
        elif work:
            threading.Thread(target=run, args=(own, work), daemon=True).start()


if __name__ == "__main__":
    main()
