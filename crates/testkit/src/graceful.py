"""The app that is handed over under load: it takes $BOOT seconds to boot and
50 ms for a request, keeps connections, and shuts down as a good server does:
every request that it has begun to read gets its answer."""

import asyncio
import os
import signal

VERSION = open("VERSION").read().strip()
BOOT = float(os.environ.get("BOOT", "1"))
BEHAVIOUR = os.environ.get("BEHAVE", "")
DOES, _, VALUE = BEHAVIOUR.partition("=")
ending = False
idle = set()
broken = False


async def connection(reader, writer):
    me = asyncio.current_task()
    try:
        while not ending:
            idle.add(me)
            line = await reader.readline()
            idle.discard(me)
            if not line:
                break
            close = await headers(reader) or line.endswith(b"HTTP/1.0\r\n")
            await answer(line.decode().split(" ")[1], writer, close or ending)
            if close:
                break
    except (ConnectionError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def headers(reader):
    close = False
    while (line := await reader.readline()) not in (b"\r\n", b""):
        close = close or line.lower() == b"connection: close\r\n"
    return close


async def answer(path, writer, close):
    await asyncio.sleep(0.05)
    sick = broken and path == "/health"
    status = "500 Sick" if sick else "200 OK"
    last = "close" if close else "keep-alive"
    body = VERSION.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: {last}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


def end(server):
    global ending
    ending = True
    server.close()
    for task in idle:
        task.cancel()


def sicken():
    global broken
    broken = True


async def main():
    if DOES == "crash":
        raise SystemExit(f"{VERSION} is broken")
    await asyncio.sleep(BOOT)
    loop = asyncio.get_running_loop()
    if DOES == "hang":
        await asyncio.sleep(3600)
    if DOES == "crash-after":
        loop.call_later(float(VALUE), os._exit, 3)
    if DOES == "sick-after":
        loop.call_later(float(VALUE), sicken)
    if DOES == "status":
        sicken()
    port = int(VALUE) if DOES == "port" else int(os.environ["PORT"])
    server = await asyncio.start_server(connection, None, port, backlog=1024)
    loop.add_signal_handler(signal.SIGTERM, end, server)
    while not ending:
        await asyncio.sleep(0.02)
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.01)


asyncio.run(main())
