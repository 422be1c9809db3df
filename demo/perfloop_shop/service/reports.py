"""Reports: what sells best, and who buys."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from threading import Lock
from typing import Annotated, Any

from cachetools import TTLCache, cached
from cachetools.keys import hashkey
from fastapi import APIRouter, Query, Request
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from perfloop_shop.service.database import Customer, Order, OrderItem, Product, open_session

RECENT_ORDERS = 12_000

router = APIRouter()
bestsellers = APIRouter()
top_sellers = APIRouter()
buyers = APIRouter()
distinct_buyers = APIRouter()

Limit = Annotated[int, Query(ge=1, le=100)]
_by_limit: TTLCache[Any, list[dict[str, Any]]] = TTLCache(maxsize=128, ttl=300)
_sales: TTLCache[Any, list[dict[str, Any]]] = TTLCache(maxsize=128, ttl=300)


def _best(session: Session, limit: int) -> list[dict[str, Any]]:
    newest = session.scalar(select(func.max(Order.id))) or 0
    sold = func.sum(OrderItem.quantity).label("sold")
    query = (
        select(Product.id, Product.name, sold)
        .join(OrderItem, OrderItem.product_id == Product.id)
        .where(OrderItem.order_id > newest - RECENT_ORDERS)
        .group_by(Product.id, Product.name)
        .order_by(sold.desc(), Product.id)
        .limit(limit)
    )
    return [{"id": row.id, "name": row.name, "sold": int(row.sold)} for row in session.execute(query)]


@cached(_by_limit, key=lambda session, limit: hashkey(limit), lock=Lock(), info=True)
def _bestsellers(session: Session, limit: int) -> list[dict[str, Any]]:
    return _best(session, limit)


@cached(_sales, lock=Lock(), info=True)
def _top_sellers(session: Session, limit: int) -> list[dict[str, Any]]:
    return _best(session, limit)


@bestsellers.get("/reports/bestsellers")
def report_bestsellers(request: Request, limit: Limit = 20) -> list[dict[str, Any]]:
    """What sold most in the newest orders."""
    with open_session(request) as session:
        return _bestsellers(session, limit)


@top_sellers.get("/reports/bestsellers")
def report_top_sellers(request: Request, limit: Limit = 20) -> list[dict[str, Any]]:
    """What sold most in the newest orders."""
    with open_session(request) as session:
        return _top_sellers(session, limit)


@dataclass
class Buyer:
    """Who bought something."""

    id: int
    city: str


def _recent_buyers(request: Request, limit: int) -> list[Buyer]:
    recent = select(Order.customer_id).order_by(Order.created_at.desc()).limit(limit).subquery()
    with open_session(request) as session:
        rows = session.execute(select(Customer.id, Customer.city).join(recent, recent.c.customer_id == Customer.id)).all()
    return [Buyer(row.id, row.city) for row in rows]


def _by_city(people: list[Buyer]) -> dict[str, Any]:
    return {"buyers": len(people), "cities": dict(Counter(person.city for person in people).most_common(5))}


@buyers.get("/reports/buyers")
def report_buyers(request: Request, limit: Annotated[int, Query(ge=50, le=5000)] = 600) -> dict[str, Any]:
    """How many people bought in the newest orders, and where they live."""
    unique = {person.id: person for person in _recent_buyers(request, limit)}
    return _by_city(list(unique.values()))


@distinct_buyers.get("/reports/buyers")
def report_distinct_buyers(request: Request, limit: Annotated[int, Query(ge=50, le=5000)] = 600) -> dict[str, Any]:
    """How many people bought in the newest orders, and where they live."""
    people: list[Buyer] = []
    for person in _recent_buyers(request, limit):
        if person not in people:
            people.append(person)
    return _by_city(people)
