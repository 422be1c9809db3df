"""The engine, its pool, and the tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from fastapi import Request
from sqlalchemy import Engine, ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from perfloop_shop.service.settings import Settings


class Base(DeclarativeBase):
    """The shop's tables."""


class Customer(Base):
    """Who buys."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    city: Mapped[str]
    created_at: Mapped[datetime]


class Product(Base):
    """What is sold."""

    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    name: Mapped[str]
    category: Mapped[str]
    description: Mapped[str]
    price_cents: Mapped[int]


class OrderItem(Base):
    """One line of an order."""

    __tablename__ = "order_items"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    price_cents: Mapped[int]
    product: Mapped[Product] = relationship()


class Order(Base):
    """One purchase."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    status: Mapped[str]
    total_cents: Mapped[int]
    currency: Mapped[str]
    ship_to: Mapped[str]
    note: Mapped[str]
    created_at: Mapped[datetime]
    items: Mapped[list[OrderItem]] = relationship(order_by=OrderItem.line)


def connect(settings: Settings) -> Engine:
    """The engine with its pool; no connection is opened yet."""
    return create_engine(
        settings.database_url,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout_s,
        connect_args={"application_name": "shop", "connect_timeout": 5},
    )


def open_session(request: Request) -> Session:
    """A session of the service's pool, for ``with``."""
    session: Session = request.app.state.sessions()
    return session


def request_session(request: Request) -> Iterator[Session]:
    """A session for the length of a request."""
    with open_session(request) as session:
        yield session
