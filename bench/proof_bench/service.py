"""A tiny real service: each request does real work, and /factor/1.05 makes it 5 % more. ``python service.py PORT``."""

import asyncio
import hashlib
import sys

BLOCK = b"perfloop" * 512
ROUNDS = 400  # about a millisecond of hashing on a core of today
factor = 1.0


async def handle(reader, writer):
    global factor
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            if path.startswith("/factor/"):
                factor = float(path.rsplit("/", 1)[1])
            elif path == "/work":
                for _ in range(round(ROUNDS * factor)):
                    hashlib.md5(BLOCK, usedforsecurity=False).digest()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", int(sys.argv[1]))
    async with server:
        await server.serve_forever()


asyncio.run(main())
