"""A service on Starlette and uvicorn: /KIND?n=N makes N calls of that kind from one line; the calls of one request run on one loop with those of others."""

import os
import sys

import httpx
import psycopg
import redis.asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

PORT = int(sys.argv[1])


async def with_psycopg(request):
    async with await psycopg.AsyncConnection.connect(os.environ["DSN"], autocommit=True) as connection:
        for i in range(int(request.query_params["n"])):
            await connection.execute("SELECT %s::int", (i,))  # line: psycopg
    return PlainTextResponse("ok")


async def with_redis(request):
    async with redis.asyncio.Redis(port=int(os.environ["REDIS_PORT"])) as store:
        for i in range(int(request.query_params["n"])):
            await store.get(f"user:{i}")  # line: redis
    return PlainTextResponse("ok")


async def with_httpx(request):
    async with httpx.AsyncClient(trust_env=False) as client:
        for i in range(int(request.query_params["n"])):
            await client.get(f"http://127.0.0.1:{PORT}/leaf/{i}")  # line: httpx
    return PlainTextResponse("ok")


def with_threads(request):  # Starlette runs it in a thread
    with httpx.Client(trust_env=False) as client:
        for i in range(int(request.query_params["n"])):
            client.get(f"http://127.0.0.1:{PORT}/leaf/{i}")  # line: threads
    return PlainTextResponse("ok")


async def leaf(_request):
    return PlainTextResponse("leaf")


app = Starlette(
    routes=[
        Route("/leaf/{i}", leaf),
        Route("/leaf", leaf),
        Route("/psycopg", with_psycopg),
        Route("/redis", with_redis),
        Route("/httpx", with_httpx),
        Route("/threads", with_threads),
    ]
)
if __name__ == "__main__":
    uvicorn.run(app, port=PORT, log_level="warning")
