"""What a column of metrics is about."""

from __future__ import annotations

import pytest

from perfloop.diagnose.metrics.names import Kind, named


@pytest.mark.parametrize(
    ("column", "component", "kind"),
    [
        ("carts-db_cpu", "carts-db", Kind.CPU),
        ("front-end_lat_90", "front-end", Kind.LATENCY),
        ("ts-order-service_latency-50", "ts-order-service", Kind.LATENCY),
        ("read-service_mem", "read-service", Kind.MEMORY),
        ('container_cpu_usage_seconds_total{namespace="shop",pod="carts-7"}', "carts-7", Kind.CPU),
        ('http_request_duration_seconds{service="web",quantile="0.9"}', "web", Kind.LATENCY),
        ("orders.heapUsed", "orders", Kind.MEMORY),
        ("web_request_errors", "web", Kind.ERRORS),
        ("cpu_user", "", Kind.CPU),
        ("queue_depth", "queue", Kind.OTHER),
        ("uptime", "", Kind.OTHER),
    ],
)
def test_component_and_kind(column, component, kind):
    assert named(column) == (component, kind)
