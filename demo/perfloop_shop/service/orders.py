"""Orders: the newest of all, and those of one customer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from perfloop_shop.service.database import Order, OrderItem, open_session
from perfloop_shop.service.pages import money

CustomerId = Annotated[int, Path(ge=1, le=20_000, examples=[4711])]
Limit = Annotated[int, Query(ge=1, le=100)]

router = APIRouter()
recent = APIRouter()
newest = APIRouter()


@router.get("/customers/{customer_id}/orders")
def orders_of_customer(request: Request, customer_id: CustomerId, limit: Limit = 20) -> list[dict[str, Any]]:
    """The newest orders of a customer."""
    columns = (Order.id, Order.status, Order.total_cents, Order.currency, Order.created_at)
    with open_session(request) as session:
        rows = session.execute(select(*columns).where(Order.customer_id == customer_id).order_by(Order.created_at.desc()).limit(limit)).all()
    return [{"id": row.id, "status": row.status, "total": money(row.total_cents, row.currency), "at": row.created_at} for row in rows]


@recent.get("/orders/recent")
def recent_orders(request: Request, limit: Limit = 20) -> list[dict[str, Any]]:
    """The newest orders with what is in them."""
    query = select(Order).order_by(Order.created_at.desc()).limit(limit).options(selectinload(Order.items).selectinload(OrderItem.product))
    with open_session(request) as session:
        orders = [_order(order) for order in session.scalars(query)]
    request.app.state.views.add(request, orders)
    return orders


@newest.get("/orders/recent")
def newest_orders(request: Request, limit: Limit = 20) -> list[dict[str, Any]]:
    """The newest orders with what is in them."""
    with open_session(request) as session:
        orders = [_order(order) for order in session.scalars(select(Order).order_by(Order.created_at.desc()).limit(limit))]
    request.app.state.views.add(request, orders)
    return orders


def _order(order: Order) -> dict[str, Any]:
    items = [{"product": item.product.name, "quantity": item.quantity, "price": money(item.price_cents)} for item in order.items]
    return {"id": order.id, "status": order.status, "total": money(order.total_cents, order.currency), "items": items}
