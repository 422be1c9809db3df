"""The shop's data: deterministic, made inside the database by set-based SQL (hashes, no random())."""

from __future__ import annotations

from importlib import resources
from typing import LiteralString

import psycopg
from psycopg import sql

ORDERS, CUSTOMERS, PRODUCTS = 520_000, 20_000, 2_000
CUSTOMER_INDEX: LiteralString = "CREATE INDEX orders_customer_id_idx ON orders (customer_id)"

_TABLES: LiteralString = """
CREATE TABLE customers (
  id integer NOT NULL, name text NOT NULL, email text NOT NULL, city text NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE products (
  id integer NOT NULL, sku text NOT NULL, name text NOT NULL, category text NOT NULL, description text NOT NULL, price_cents integer NOT NULL);
CREATE TABLE orders (
  id bigint NOT NULL, customer_id integer NOT NULL, status text NOT NULL, total_cents integer NOT NULL, currency text NOT NULL,
  ship_to text NOT NULL, note text NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE order_items (
  order_id bigint NOT NULL, line smallint NOT NULL, product_id integer NOT NULL, quantity smallint NOT NULL, price_cents integer NOT NULL);
"""

# h(i, k): a number from 0 to 2^31-1 that depends on nothing but its arguments.
_HASH: LiteralString = """
CREATE FUNCTION pg_temp.h(i bigint, k integer) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT hashint8extended(i, k) & 2147483647';
"""

_CUSTOMERS: LiteralString = """
INSERT INTO customers
SELECT i, (ARRAY['Ada','Ben','Cleo','Dan','Eva','Finn','Gina','Hugo','Iris','Jan'])[1 + pg_temp.h(i,1) % 10] || ' '
       || (ARRAY['Abel','Brandt','Conti','Duarte','Eriksen','Fischer','Garcia','Horvat','Ivanov','Jensen'])[1 + pg_temp.h(i,2) % 10],
       'customer' || i || '@example.org',
       (ARRAY['Lisbon','Oslo','Vienna','Ghent','Turin','Lyon','Cork','Graz','Malmo','Porto','Basel','Delft'])[1 + pg_temp.h(i,3) % 12],
       timestamptz '2023-01-01 00:00+00' + (pg_temp.h(i,4) % 730) * interval '1 day'
FROM generate_series(1, {customers}) AS i
"""

_PRODUCTS: LiteralString = """
INSERT INTO products
SELECT i, 'SKU-' || lpad(i::text, 6, '0'),
       (ARRAY['Oak','Steel','Linen','Glass','Cork','Wool','Clay','Brass'])[1 + pg_temp.h(i,1) % 8] || ' '
       || (ARRAY['lamp','chair','table','shelf','bowl','clock','mirror','basket','stool','vase'])[1 + pg_temp.h(i,2) % 10] || ' No. ' || i,
       (ARRAY['living','kitchen','office','garden','bedroom'])[1 + pg_temp.h(i,3) % 5],
       (SELECT string_agg((ARRAY['solid','warm','light','hand-made','durable','simple','calm','bright','everyday','repairable'])[1 + pg_temp.h(i * 100 + w,4) % 10], ' ')
        FROM generate_series(1, 55) AS w),
       500 + (pg_temp.h(i,5) % 39500)::integer
FROM generate_series(1, {products}) AS i
"""

_ORDERS: LiteralString = """
INSERT INTO orders
SELECT i, 1 + pg_temp.h(i,11) % {customers}, CASE pg_temp.h(i,12) % 8 WHEN 0 THEN 'open' WHEN 1 THEN 'packed' WHEN 2 THEN 'returned' ELSE 'delivered' END,
       500 + pg_temp.h(i,13) % 60000, 'EUR',
       'Long Street ' || pg_temp.h(i,14) % 200 || ', house ' || pg_temp.h(i,15) % 40 || ', 10' || pg_temp.h(i,16) % 900 || ' Harbour Town, second courtyard, ring twice',
       'Please leave the parcel with the neighbour at number ' || pg_temp.h(i,17) % 90 || ' if nobody is home, and close the gate.',
       timestamptz '2025-01-01 00:00+00' + i * interval '40 seconds'
FROM generate_series(1, {orders}) AS i
"""

_ITEMS: LiteralString = """
INSERT INTO order_items
SELECT o, l, 1 + pg_temp.h(o * 4 + l, 21) % {products}, 1 + pg_temp.h(o * 4 + l, 22) % 3, 500 + pg_temp.h(o * 4 + l, 23) % 39500
FROM generate_series(1, {orders}) AS o, LATERAL generate_series(1, 1 + (o % 3)::integer) AS l
"""

_INDEXES: LiteralString = """
ALTER TABLE customers ADD PRIMARY KEY (id);
ALTER TABLE products ADD PRIMARY KEY (id);
ALTER TABLE orders ADD PRIMARY KEY (id);
ALTER TABLE order_items ADD PRIMARY KEY (order_id, line);
CREATE INDEX orders_created_at_idx ON orders (created_at);
CREATE INDEX products_category_idx ON products (category, id);
"""

_ROLES: LiteralString = """
CREATE ROLE shop LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
CREATE ROLE perfloop_ro LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 12;
ALTER ROLE perfloop_ro SET default_transaction_read_only = on;
ALTER ROLE perfloop_ro SET statement_timeout = '15s';
"""

_GRANTS: LiteralString = """
ALTER TABLE customers OWNER TO shop;
ALTER TABLE products OWNER TO shop;
ALTER TABLE orders OWNER TO shop;
ALTER TABLE order_items OWNER TO shop;
GRANT USAGE ON SCHEMA public TO perfloop_ro;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO perfloop_ro;
"""


def customers(orders: int) -> int:
    """How many customers go with so many orders: 26 orders each."""
    return max(100, orders * CUSTOMERS // ORDERS)


def create_database(connection: psycopg.Connection) -> None:
    """Roles and the database, from a superuser's connection to ``postgres``. Passwords are given later, per start."""
    connection.execute(_ROLES)
    connection.execute("CREATE DATABASE shop OWNER shop")
    connection.execute("REVOKE ALL ON DATABASE shop FROM PUBLIC")
    connection.execute("GRANT CONNECT ON DATABASE shop TO shop, perfloop_ro")


def seed(connection: psycopg.Connection, orders: int = ORDERS) -> None:
    """Tables, rows, indexes, grants and statistics. One transaction from CREATE TABLE to the rows, so that they skip the WAL."""
    sizes = {"orders": orders, "customers": customers(orders), "products": PRODUCTS}
    with connection.transaction():
        connection.execute(_TABLES)
        connection.execute(_HASH)
        for statement in (_CUSTOMERS, _PRODUCTS, _ORDERS, _ITEMS):
            connection.execute(sql.SQL(statement).format(**sizes))
        connection.execute(_INDEXES)
        connection.execute(CUSTOMER_INDEX)
        connection.execute(_GRANTS)
    connection.execute(activity_sql())
    connection.execute("VACUUM (ANALYZE, FREEZE)")


def activity_sql() -> LiteralString:
    """The grant that perfloop asks a database owner for, word for word as perfloop prints it."""
    text: LiteralString = resources.files("perfloop.sql").joinpath("activity.sql").read_text()
    return text
