"""Stock and quotes, which the supplier knows."""

from __future__ import annotations

from threading import Lock

import httpx

from perfloop_shop.service.settings import Settings

WAREHOUSES = ("north", "south")


class Supplier:
    """The supplier's HTTP interface."""

    def __init__(self, settings: Settings) -> None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=settings.supplier_keepalive)
        self._client = httpx.Client(base_url=settings.supplier_url, limits=limits, timeout=settings.supplier_timeout_s, trust_env=False)
        self._async_client = httpx.AsyncClient(base_url=settings.supplier_url, limits=limits, timeout=settings.supplier_timeout_s, trust_env=False)

    def stock(self, product_id: int, warehouse: str) -> dict[str, int | str]:
        """Units of a product in a warehouse."""
        answer = self._client.get(f"/stock/{product_id}", params={"warehouse": warehouse})
        answer.raise_for_status()
        found: dict[str, int | str] = answer.json()
        return found

    async def quote(self, product_id: int) -> dict[str, int]:
        """Today's wholesale price."""
        answer = await self._async_client.get(f"/quote/{product_id}")
        answer.raise_for_status()
        found: dict[str, int] = answer.json()
        return found

    def stock_everywhere(self, product_id: int, warehouses: tuple[str, ...] = WAREHOUSES) -> list[dict[str, int | str]]:
        """Units of a product in each warehouse."""
        return [self.stock(product_id, warehouse) for warehouse in warehouses]

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()
        await self._async_client.aclose()


class PlainQuotes(Supplier):
    """Quotes through the one client that we have already."""

    async def quote(self, product_id: int) -> dict[str, int]:
        """Today's wholesale price."""
        answer = self._client.get(f"/quote/{product_id}")
        answer.raise_for_status()
        found: dict[str, int] = answer.json()
        return found


class CountedStock:
    """Stock with a count of the lookups per warehouse, for the monthly report."""

    def __init__(self, supplier: Supplier) -> None:
        self._supplier = supplier
        self._guard = Lock()
        self._lookups: dict[str, int] = {}

    def stock_everywhere(self, product_id: int, warehouses: tuple[str, ...] = WAREHOUSES) -> list[dict[str, int | str]]:
        """Units of a product in each warehouse."""
        with self._guard:  # the counters are not thread safe
            levels = []
            for warehouse in warehouses:
                self._lookups[warehouse] = self._lookups.get(warehouse, 0) + 1
                levels.append(self._supplier.stock(product_id, warehouse))
            return levels
