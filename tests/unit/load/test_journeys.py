"""Journeys from the configuration, and which targets may be loaded."""

from __future__ import annotations

import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.journeys import PATHS_MAX, expand, journeys_from_config
from perfloop.load.targets import check_allowed
from perfloop.model.config import JourneyConfig


def test_a_range_is_spread_from_the_first_few_on():
    paths = expand("/orders/{1..500000}")
    numbers = [int(path.rsplit("/", 1)[1]) for path in paths]
    assert len(paths) == len(set(paths)) == PATHS_MAX
    assert all(1 <= n <= 500_000 for n in numbers)
    assert {n // 100_001 for n in numbers[:12]} == {0, 1, 2, 3, 4}
    assert paths == expand("/orders/{1..500000}")


def test_a_small_range_is_complete():
    assert sorted(expand("/p/{3..7}")) == [f"/p/{n}" for n in range(3, 8)]
    assert expand("/p/{4..4}") == ("/p/4",)
    assert expand("/plain?q={x}") == ("/plain?q={x}",)


def test_several_ranges_advance_together():
    paths = expand("/a/{1..10}/b/{100..199}")
    assert len(paths) == 100
    assert all(1 <= int(p.split("/")[2]) <= 10 and 100 <= int(p.split("/")[4]) <= 199 for p in paths)
    assert len({p.split("/")[2] for p in paths}) == 10


def test_steps():
    journeys = journeys_from_config(
        (
            JourneyConfig(path="/orders/{1..9}?x=1", weight=3),
            JourneyConfig(name="buy", method="POST", path="/orders", body="{}", headers={"X": "1"}),
            JourneyConfig(paths=("/a", "/b")),
        )
    )
    assert [s.name for s in journeys.steps] == ["GET /orders/{id}?x=1", "buy", "GET /a"]
    assert journeys.source == "configuration"
    assert (journeys.steps[0].weight, len(journeys.steps[0].paths)) == (3, 9)
    assert (journeys.steps[1].method, journeys.steps[1].body, journeys.steps[1].headers) == ("POST", "{}", (("X", "1"),))
    assert journeys.steps[2].paths == ("/a", "/b")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((), "no journeys"),
        ((JourneyConfig(path="/a"), JourneyConfig(path="/a")), "called GET /a"),
        ((JourneyConfig(path="/a/{9..1}"),), "empty"),
        ((JourneyConfig(path="http://elsewhere/a"),), "does not start with /"),
    ],
)
def test_what_is_no_journey(given, text):
    with pytest.raises(UsageError, match=text) as raised:
        journeys_from_config(given)
    assert raised.value.fix


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "https://127.5.5.5/x", "http://[::1]:80/", "http://[::ffff:127.0.0.1]/"])
def test_loopback_is_plain(url):
    assert check_allowed(url, ())


@pytest.mark.parametrize("url", ["http://192.0.2.7/", "http://0.0.0.0:8000/", "http://[2001:db8::1]/", "http://10.0.0.1:8080"])
def test_any_other_target_must_be_named(url):
    with pytest.raises(UsageError, match="may not be loaded") as raised:
        check_allowed(url, ("shop.example.com",))
    assert "allow_hosts" in raised.value.why
    assert "allow_hosts" in raised.value.fix


def test_a_named_target_is_allowed():
    assert check_allowed("http://192.0.2.7:81/x", ("192.0.2.7",)) == ("192.0.2.7",)


def test_a_name_that_does_not_resolve_and_what_is_no_url():
    with pytest.raises(CannotMeasure, match="resolved"):
        check_allowed("http://no-such-host.invalid/", ("no-such-host.invalid",))
    for url in ("gopher://127.0.0.1", "127.0.0.1:8000", "http://", "http://a:b@127.0.0.1/"):
        with pytest.raises(UsageError):
            check_allowed(url, ())
