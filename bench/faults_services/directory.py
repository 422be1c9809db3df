"""The other service: people by id, after a delay that the caller chooses (``ms``), failing now and then where asked (``fail``). Standard library only."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    count = 0
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            asked = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query)
            await asyncio.sleep(float(asked.get("ms", ["2"])[0]) / 1000)
            count += 1
            failed = int(asked.get("attempt", ["9"])[0]) < int(asked.get("fail", ["0"])[0])
            body = b'{"name": "somebody", "team": "north", "busy": false}'
            writer.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (b"503 Busy" if failed else b"200 OK", len(body), body)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
