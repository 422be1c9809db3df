"""From a workload as JSON to what sends it: the route, the journeys, and the arrivals or users."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from perfloop.errors import CannotMeasure
from perfloop.load.engines.asking import Function, Program
from perfloop.load.engines.crowd import ClosedUsers, OpenUsers, World
from perfloop.load.engines.declared import body_of, declared, varies
from perfloop.load.engines.feeds import feeder, load_rows
from perfloop.load.engines.inbox import AVAILABLE, Inbox
from perfloop.load.engines.pool import OursError, Pool, Route
from perfloop.load.engines.recorder import Column, Recorder
from perfloop.load.engines.requests import Origin, Template, build_templates, parse_origin
from perfloop.load.engines.room import owns, rate_max_per_s, users_of
from perfloop.load.engines.schedule import Curve, arrival_times, curve_times, make_curve, shard_arrivals, step_choices
from perfloop.load.engines.scripts import load_script, programs_of
from perfloop.load.engines.sending import Sending, Source
from perfloop.load.engines.sources import ClosedBare, Crowd, OpenArrivals
from perfloop.model.limits import is_store

Plan = dict[str, Any]
FunctionOf = Callable[[Plan], Function]
_NUMPY_RATE_PER_S = 2_000  # from here on counting is done by arrays
_PATIENT_FROM_PER_S = 1_000  # from here on arrivals wake us more often than looking for answers in between would


def build(plan: Plan, recorder: Recorder) -> tuple[Sending, Source]:
    """What sends this workload; ``UsageError`` for requests that cannot be made, ``OursError`` for what is missing here."""
    shard = plan["shard"]
    if (plan["users"] and not plan["think_s"][1]) or plan["rate_per_s"] > _NUMPY_RATE_PER_S:
        import numpy  # noqa: F401 -- now, and not in the middle of the load
    if not is_store(plan["base_url"]) and is_bare(plan):
        origin = parse_origin(plan["base_url"])
        sending = _sending(plan, recorder, origin, _inbox(plan, origin))
        steps = [_bare_step(plan, step, origin, recorder) for step in plan["steps"]]
        weights = [step["weight"] for step in plan["steps"]]
        if plan["users"]:
            if len(steps) == len(steps[0][1]) == 1:
                steps[0][0].bytes_each = len(steps[0][1][0].payload)
            choices = step_choices(weights, f"{plan['seed']}/{shard['index']}")
            return sending, ClosedBare(sending, steps, _crowd(plan), users_of(plan), choices, shard["index"])
        return sending, OpenArrivals(sending, steps, _arrivals(plan, weights), shard["index"])
    world, programs = build_world(plan, recorder)
    weights = [program.weight for program in programs]
    choices = step_choices(weights, f"{plan['seed']}/{shard['index']}")
    think_s = tuple(plan["think_s"])
    world.populate(programs, choices, (think_s[0], think_s[1]), max(1, plan["users"]))
    if plan["users"]:
        return world.sending, ClosedUsers(world, _crowd(plan), shard["index"], shard["count"])
    return world.sending, OpenUsers(world, _arrivals(plan, weights))


def build_world(plan: Plan, recorder: Recorder) -> tuple[World, list[Program]]:
    """The world of users, and the journeys that they run."""
    script = plan["script"]
    data = json.loads(script["data"]) if script and script["data"] else None
    world, function_of = _stored(plan, recorder, data) if is_store(plan["base_url"]) else _served(plan, recorder, data)
    world.programs = (Program("", _nothing, recorder.journey("")),)
    if plan.get("hook"):
        return world, []
    if script:
        return world, programs_of(load_script(script), script["weights"], recorder)
    journeys = [{"name": s["name"], "steps": [s], "weight": s["weight"], "feeds": [], "think_s": (0.0, 0.0)} for s in plan["steps"]]
    return world, [_program(plan, journey, world, function_of) for journey in (*journeys, *plan["journeys"])]


def _served(plan: Plan, recorder: Recorder, data: Any) -> tuple[World, FunctionOf]:
    """The world of an HTTP service, and how its declared journeys become functions."""
    origin = parse_origin(plan["base_url"])
    world = World(_sending(plan, recorder, origin), recorder, origin, plan["headers"], plan["seed"], plan["cookies"], data)
    return world, lambda journey: declared(journey, world, origin, plan["headers"])


def _stored(plan: Plan, recorder: Recorder, data: Any) -> tuple[World, FunctionOf]:
    """The same for a database or cache."""
    from perfloop.load.engines.stores.world import declared_questions, store_world  # a driver and a parser of SQL, only where they are used

    world = store_world(plan, recorder, data)
    return world, lambda journey: declared_questions(journey, world)


def is_bare(plan: Plan) -> bool:
    """True where requests need no user: single steps without variables, checks, extraction or pauses."""
    if plan["script"] or plan["journeys"] or (plan["users"] and (plan["think_s"][1] or plan["stages"])):
        return False
    return all(not (s["checks"] or s["extracts"] or s["think_s"][1] or s["timeout_s"] or s["redirects_max"] or varies(s)) for s in plan["steps"])


async def _nothing(user: Any) -> None:
    """The journey of a user who has none yet."""


def _program(plan: Plan, journey: Plan, world: World, function_of: FunctionOf) -> Program:
    feeds = [feeder(load_rows(feed, plan["seed"]), lambda why: world.sending.stop_now(why)) for feed in journey["feeds"]]
    function = function_of(journey)
    think_s = tuple(journey["think_s"])
    return Program(journey["name"], function, world.recorder.journey(journey["name"]), journey["weight"], (think_s[0], think_s[1]), feeds)


def _bare_step(plan: Plan, step: Plan, origin: Origin, recorder: Recorder) -> tuple[Column, tuple[Template, ...]]:
    templates = build_templates(origin, step["method"], step["paths"], (*plan["headers"], *step["headers"]), body_of(step))
    return recorder.column(step["name"]), templates


def _sending(plan: Plan, recorder: Recorder, origin: Origin, inbox: Inbox | None = None) -> Sending:
    timeouts = plan["timeouts"]
    route = route_of(plan, origin)
    return Sending(
        route,
        recorder,
        pool=_pool_type(plan, route),
        own=owns(plan),
        timeout_s=plan["timeout_s"],
        first_byte_s=timeouts["first_byte_s"],
        connections_max=plan["connections_max"],
        error_rate_stop=plan["error_rate_stop"],
        inbox=inbox,
    )


def _pool_type(plan: Plan, route: Route) -> type[Pool]:
    """The pool of the wanted version of HTTP: with TLS the server has a say (ALPN), without it HTTP/2 is taken as known."""
    wanted = plan["http_version"]
    if wanted == "1.1" or (wanted == "auto" and route.tls is None):
        return Pool
    from perfloop.load.engines.http2 import Http2Pool, speaks_http2  # an extra, and slow to import

    if route.tls is not None and not speaks_http2(route):
        if wanted == "2":
            raise CannotMeasure(
                "the server does not speak HTTP/2", why="TLS offered it (ALPN), and it was not chosen", fix='target.http_version = "auto" or "1.1"'
            )
        route.tls.set_alpn_protocols(["http/1.1"])
        return Pool
    return Http2Pool


def _inbox(plan: Plan, origin: Origin) -> Inbox | None:
    """Open load reads its answers itself, where the kernel stamps them and nothing stands between (TLS does); patiently where arrivals wake us often."""
    if plan["users"] or origin.tls or plan["http_version"] == "2" or not AVAILABLE:
        return None
    return Inbox(asyncio.get_running_loop(), patient=rate_max_per_s(plan) / plan["shard"]["count"] >= _PATIENT_FROM_PER_S)


def _curve(plan: Plan) -> Curve:
    stages = [(stage["duration_s"], stage["level"], stage["step"]) for stage in plan["stages"]]
    return make_curve(plan["users"] or plan["rate_per_s"], stages, plan["ramp_up_s"], plan["duration_s"])


def _crowd(plan: Plan) -> Crowd:
    return Crowd(_curve(plan), plan["shard"]["index"], plan["shard"]["count"], users_of(plan))


def _arrivals(plan: Plan, weights: list[float]) -> Iterator[tuple[int, float, int]]:
    """The arrivals of this shard: number, time, and the index of the journey."""
    shard, replay = plan["shard"], plan["replay"]
    choices = step_choices(weights, plan["seed"])
    if replay:
        times: Iterator[float] = (at for at in replay["times_s"] if at < plan["duration_s"])
        choices = iter(replay["journeys"]) if replay["journeys"] else choices
    elif plan["stages"] or plan["ramp_up_s"]:
        times = curve_times(_curve(plan), plan["duration_s"], plan["arrival"], plan["seed"])
    else:
        times = arrival_times(plan["rate_per_s"], plan["duration_s"], plan["arrival"], plan["seed"])
    return shard_arrivals(times, choices, shard["index"], shard["count"], shard["from_s"])


def route_of(plan: Plan, origin: Origin) -> Route:
    """How to connect; ``OursError`` for a host or a certificate that is none."""
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OursError(f"{origin.host} cannot be resolved: {error}", "check the host in the URL") from error
    # IPv4 first: a service that listens on one family only is most often there, and a refusal costs a try for each connection
    addresses = tuple(dict.fromkeys((str(a[4][0]), int(a[4][1])) for a in sorted(found, key=lambda a: a[0] != socket.AF_INET)))
    sources, connect_s = tuple(plan["source_addresses"]), plan["timeouts"]["connect_s"]
    if not origin.tls:
        return Route(addresses, None, "", sources, connect_s)
    tls = plan["tls"]
    ca_file = tls["ca_file"] or plan["ca_file"]
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise OursError(f"the CA file {ca_file} cannot be used: {error}", "give certificates in PEM form as target.ca_file") from error
    if tls["cert_file"]:
        try:
            context.load_cert_chain(tls["cert_file"], tls["key_file"] or None)
        except (OSError, ssl.SSLError) as error:
            raise OursError(f"the certificate {tls['cert_file']} cannot be used: {error}", "give certificate and key in PEM form") from error
    context.set_alpn_protocols({"1.1": ["http/1.1"], "2": ["h2"], "auto": ["h2", "http/1.1"]}[plan["http_version"]])
    return Route(addresses, context, origin.host, sources, connect_s)
