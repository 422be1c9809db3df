"""Products: pages, lists, search, stock and quotes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from perfloop_shop.service.database import Product, open_session, request_session
from perfloop_shop.service.pages import money

ProductId = Annotated[int, Path(ge=1, le=2000, examples=[42])]
_COLUMNS = (Product.id, Product.sku, Product.name, Product.category, Product.description, Product.price_cents)

router = APIRouter()
pages = APIRouter()
pages_of_request = APIRouter()


@router.get("/products")
def list_products(request: Request, limit: Annotated[int, Query(ge=1, le=200)] = 40, offset: Annotated[int, Query(ge=0, le=1800)] = 0) -> list[dict[str, Any]]:
    """A page of the catalogue."""
    with open_session(request) as session:
        rows = session.execute(select(*_COLUMNS).order_by(Product.id).limit(limit).offset(offset)).mappings().all()
    request.app.state.views.add(request, rows)
    return [_line(request, row) for row in rows]


@router.get("/search")
def search(
    request: Request, q: Annotated[str, Query(min_length=2, max_length=40)] = "lamp", limit: Annotated[int, Query(ge=1, le=100)] = 30
) -> list[dict[str, Any]]:
    """Products whose name contains the text."""
    with open_session(request) as session:
        rows = session.execute(select(*_COLUMNS).where(Product.name.ilike(f"%{q}%")).order_by(Product.id).limit(limit)).mappings().all()
    request.app.state.views.add(request, rows)
    return [{"id": row["id"], "name": row["name"], "price": money(row["price_cents"])} for row in rows]


@router.get("/products/{product_id}/quote")
async def quote(request: Request, product_id: ProductId) -> dict[str, Any]:
    """What the supplier asks for a product today."""
    answer = await request.app.state.supplier.quote(product_id)
    return {"product_id": product_id, "price": money(answer["cents"]), "days": answer["days"]}


@pages.get("/products/{product_id}")
def product_page(request: Request, product_id: ProductId) -> dict[str, Any]:
    """One product and how many there are."""
    with open_session(request) as session:
        page = _page(request, session, product_id)
    return page | {"stock": request.app.state.stock.stock_everywhere(product_id, ("north",))}


@pages.get("/products/{product_id}/availability")
def availability(request: Request, product_id: ProductId) -> dict[str, Any]:
    """Units of a product in each warehouse."""
    with open_session(request) as session:
        page = _page(request, session, product_id)
    return {"id": page["id"], "name": page["name"], "warehouses": request.app.state.stock.stock_everywhere(product_id)}


SessionOfRequest = Annotated[Session, Depends(request_session)]


@pages_of_request.get("/products/{product_id}")
def show_product(request: Request, product_id: ProductId, session: SessionOfRequest) -> dict[str, Any]:
    """One product and how many there are."""
    page = _page(request, session, product_id)
    return page | {"stock": request.app.state.stock.stock_everywhere(product_id, ("north",))}


@pages_of_request.get("/products/{product_id}/availability")
def show_availability(request: Request, product_id: ProductId, session: SessionOfRequest) -> dict[str, Any]:
    """Units of a product in each warehouse."""
    page = _page(request, session, product_id)
    return {"id": page["id"], "name": page["name"], "warehouses": request.app.state.stock.stock_everywhere(product_id)}


def _page(request: Request, session: Session, product_id: int) -> dict[str, Any]:
    row = session.execute(select(*_COLUMNS).where(Product.id == product_id)).mappings().first()
    if row is None:
        raise HTTPException(404, f"there is no product {product_id}")
    request.app.state.views.add(request, [row])
    return _line(request, row) | {"description": row["description"]}


def _line(request: Request, row: Any) -> dict[str, Any]:
    tag = request.app.state.tag
    return {"id": row["id"], "sku": row["sku"], "name": row["name"], "price": money(row["price_cents"]), "tag": tag(row["description"])}
