"""One process that times its own queries: python queries.py plain|agent|otel. Prints the median nanoseconds of one query over several passes of requests of 30."""

import contextlib
import sqlite3
import statistics
import sys
import time

REQUESTS, QUERIES, PASSES = 150, 30, 9
mode = sys.argv[1]


@contextlib.contextmanager
def plain():
    yield


def agent():
    from perfloop_agent import counts

    @contextlib.contextmanager
    def request():
        token = counts.begin("GET", "/books")
        yield
        counts.end(token)

    return request


def otel():
    from opentelemetry import trace
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans):
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    SQLite3Instrumentor().instrument()
    tracer = trace.get_tracer("bench")
    return lambda: tracer.start_as_current_span("GET /books")


request = {"plain": lambda: plain, "agent": agent, "otel": otel}[mode]()
cursor = sqlite3.connect(":memory:").cursor()
passes = []
for _ in range(PASSES):
    began = time.perf_counter_ns()
    for _ in range(REQUESTS):
        with request():
            for i in range(QUERIES):
                cursor.execute("SELECT name FROM sqlite_master WHERE rootpage = ?", (i,))
    passes.append((time.perf_counter_ns() - began) / REQUESTS / QUERIES)
print(statistics.median(passes[1:]))
