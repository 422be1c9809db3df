"""The application: settings, pool and clients, and the routes that the settings ask for. Run by uvicorn."""

from __future__ import annotations

import ctypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.orm import sessionmaker

from perfloop_shop.service import catalog, inventory, orders, pages, reports, settings
from perfloop_shop.service.database import connect

PR_SET_PTRACER, ANY = 0x59616D61, ctypes.c_ulong(-1)


def create_app(config: settings.Settings) -> FastAPI:
    """The service for one configuration."""
    on = config.variants
    engine = connect(config)
    supplier = inventory.PlainQuotes(config) if "event-loop-blocked" in on else inventory.Supplier(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await supplier.close()
        engine.dispose()

    app = FastAPI(title="Shop", version="1", lifespan=lifespan)
    app.state.sessions = sessionmaker(engine, expire_on_commit=False)
    app.state.supplier = supplier
    app.state.stock = inventory.CountedStock(supplier) if "lock-contention" in on else supplier
    app.state.views = pages.ViewsByVisit() if "memory-leak" in on else pages.LastViews()
    app.state.tag = pages.tag16 if "cpu-hot-spot" in on else pages.tag

    app.include_router(catalog.router)
    app.include_router(catalog.pages_of_request if "pool-exhausted" in on else catalog.pages)
    app.include_router(orders.router)
    app.include_router(orders.newest if "n-plus-one" in on else orders.recent)
    app.include_router(reports.top_sellers if "cache-ineffective" in on else reports.bestsellers)
    app.include_router(reports.distinct_buyers if "superlinear" in on else reports.buyers)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answers when the service is up."""
        return {"status": "ok"}

    return app


def _let_profilers_in() -> None:
    """Where the kernel lets only parents trace (yama), say that any process of our user may: this is a demo."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)
    except (OSError, AttributeError):  # no prctl here
        pass


_let_profilers_in()
app = create_app(settings.load())
