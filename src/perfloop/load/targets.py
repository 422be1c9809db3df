"""Which targets may be loaded: a loopback address is plain, any other must be allowed by name."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines.requests import parse_origin
from perfloop.model.limits import is_store, place_of


def check_allowed(url: str, allow_hosts: Sequence[str]) -> tuple[str, ...]:
    """The addresses that the URL's host resolves to, when it may be loaded.

    A name counts as local only when *all* its addresses are loopback. ``UsageError`` names the host and the bound (``target.allow_hosts``);
    ``CannotMeasure`` for a name that does not resolve.
    """
    host, _ = _place(url)
    if host.startswith("/"):  # a Unix socket
        return (host,)
    addresses = addresses_of(url)
    if all(_loopback(address) for address in addresses) or host in {allowed.lower().rstrip(".") for allowed in allow_hosts}:
        return addresses
    named = f"names only {', '.join(allow_hosts)}" if allow_hosts else "is empty"
    raise UsageError(
        f"{host} may not be loaded",
        why=f"it is no local address ({', '.join(addresses[:3])}), and target.allow_hosts {named}",
        fix=f'if it is yours to load, allow it by name: allow_hosts = ["{host}"] under [target] in perfloop.toml',
    )


def addresses_of(url: str) -> tuple[str, ...]:
    """The addresses of the URL's host; ``CannotMeasure`` where it has none."""
    host, port = _place(url)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CannotMeasure(f"the host {host} cannot be resolved", why=str(error), fix="check the name in the URL") from error
    return tuple(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))


def _place(url: str) -> tuple[str, int]:
    if not is_store(url):
        origin = parse_origin(url)
        return origin.host.rstrip("."), origin.port
    try:
        place = place_of(url)
    except ValueError as error:
        raise UsageError("the address of the target cannot be used", why=str(error), fix="write postgresql://host:5432/name") from None
    return place.socket or place.host.rstrip("."), place.port


def _loopback(address: str) -> bool:
    parsed = ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
