"""The supplier: a small HTTP service of its own that the shop asks for stock and quotes. Waiting is its nature."""

from __future__ import annotations

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

STOCK_DELAY_S = float(os.environ.get("SUPPLIER_STOCK_DELAY_MS", "3")) / 1000
QUOTE_DELAY_S = float(os.environ.get("SUPPLIER_QUOTE_DELAY_MS", "4")) / 1000


async def stock(request: Request) -> JSONResponse:
    """Units of a product in one warehouse."""
    product_id = int(request.path_params["product_id"])
    await asyncio.sleep(STOCK_DELAY_S)
    place = request.query_params.get("warehouse", "north")
    return JSONResponse({"product_id": product_id, "warehouse": place, "units": (product_id * 7919 + len(place)) % 120})


async def quote(request: Request) -> JSONResponse:
    """Today's wholesale price of a product."""
    product_id = int(request.path_params["product_id"])
    await asyncio.sleep(QUOTE_DELAY_S)
    return JSONResponse({"product_id": product_id, "cents": 300 + product_id * 104_729 % 20_000, "days": 1 + product_id % 9})


app = Starlette(routes=[Route("/stock/{product_id:int}", stock), Route("/quote/{product_id:int}", quote)])
