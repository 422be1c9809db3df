"""The help desk on Django and its ORM, in one file, run by gunicorn with threads. FAULTS names the faults that are on."""

from __future__ import annotations

import json
import os
import time
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import django
import redis
import requests
from django.apps import apps
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from faults_services import work

FAULTS = frozenset(filter(None, os.environ.get("FAULTS", "").split(",")))
DIRECTORY, dsn = os.environ["DIRECTORY_URL"], urlsplit(os.environ["DATABASE_DSN"])
pool = {"min_size": 2, "max_size": 2 if "pool-exhausted" in FAULTS else 10, "timeout": 10}
settings.configure(
    SECRET_KEY="for a bench",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    LOGGING_CONFIG=None,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": dsn.path[1:],
            "USER": dsn.username,
            "PASSWORD": dsn.password,
            "HOST": dsn.hostname,
            "PORT": dsn.port,
            "OPTIONS": {} if "no-keep-alive" in FAULTS else {"pool": pool},
        }
    },
)
django.setup()
from django.db import models  # noqa: E402

http = requests.Session()
http.trust_env = False
http.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=40))
cache = redis.Redis(port=int(os.environ["REDIS_PORT"]), decode_responses=True)
guard = Lock()
counts: dict[str, int] = {}
if "logging-heavy" in FAULTS:
    work.log.setLevel("INFO")
    work.log.addHandler(work.logging.FileHandler(os.environ["LOG_FILE"]))
apps.get_app_configs()


class Agent(models.Model):
    name = models.TextField()

    class Meta:
        app_label, db_table, managed = "desk", "agents", False


class Ticket(models.Model):
    agent_id = models.IntegerField()
    subject, state, body = models.TextField(), models.TextField(), models.TextField()
    opened_at = models.DateTimeField()

    class Meta:
        app_label, db_table, managed = "desk", "tickets", False


class Message(models.Model):
    ticket = models.ForeignKey(Ticket, models.CASCADE, related_name="messages")
    author = models.ForeignKey(Agent, models.CASCADE, related_name="+")
    text = models.TextField()

    class Meta:
        app_label, db_table, managed = "desk", "messages", False


FIELDS = ("id", "agent_id", "subject", "state")


def ask(person: int, ms: float = 2, **more: Any) -> dict[str, Any]:
    answer = http.get(
        f"{DIRECTORY}/people/{person}", params={"ms": ms, **more}, timeout=5
    )  # here: slow-downstream, event-loop-blocked, pool-exhausted, thread-pool-exhausted, worker-count-wrong
    answer.raise_for_status()
    return answer.json()


def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


def show(request: HttpRequest, ticket: int) -> HttpResponse:
    return JsonResponse(Ticket.objects.values(*FIELDS, "body").get(id=ticket))


def inbox(request: HttpRequest) -> HttpResponse:
    agent = int(request.GET.get("agent", "7"))
    return JsonResponse(list(Ticket.objects.filter(agent_id=agent).order_by("-opened_at").values(*FIELDS)[:20]), safe=False)  # here: missing-index


def threads(request: HttpRequest) -> HttpResponse:
    tickets = Ticket.objects.order_by("-id")
    if "n-plus-one" not in FAULTS:
        tickets = tickets.prefetch_related("messages__author")
    return JsonResponse([thread(ticket) for ticket in tickets[: int(request.GET.get("limit", "15"))]], safe=False)  # here: n-plus-one


def thread(ticket: Ticket) -> dict[str, Any]:
    messages = [{"text": message.text, "author": message.author.name} for message in ticket.messages.all()]  # here: n-plus-one
    return {"id": ticket.id, "subject": ticket.subject, "messages": messages}


def digest(request: HttpRequest) -> HttpResponse:
    days = int(request.GET.get("days", "30"))
    found = list(Ticket.objects.filter(id__lte=days * 20).order_by("id").values(*FIELDS))
    if "memory-leak" in FAULTS:
        work.remember(found)
    for fault, count in SUMMARIES.items():
        if fault in FAULTS:
            return JsonResponse(count(found))
    if "cache-ineffective" in FAULTS:
        return JsonResponse({"digest": work.digest_cached(found, days)})
    return JsonResponse(work.summary(found))


SUMMARIES = {
    "cpu-hot-spot": work.summary_signed,
    "superlinear": work.summary_compared,
    "gil-bound": work.summary_signed,
    "decoy-cache": work.summary_with_a_label,
    "decoy-lock": work.summary_counted,
    "decoy-memory": work.summary_kept,
    "decoy-nested": work.summary_paired,
    "gc-pressure": work.summary_as_tree,
    "excessive-allocation": work.summary_from_copies,
}


def export(request: HttpRequest) -> HttpResponse:
    if "no-pagination" in FAULTS:
        return JsonResponse(list(Ticket.objects.filter(id__lt=2500).values(*FIELDS)), safe=False)  # here: no-pagination
    found = list(Ticket.objects.order_by("id").values(*FIELDS)[:40])
    if "logging-heavy" in FAULTS:
        work.audit(found * 8)
    if "serialization-heavy" in FAULTS:
        return HttpResponse(json.dumps(work.enriched(found * 4), indent=2), content_type="application/json")  # here: serialization-heavy
    if "large-payload" in FAULTS:
        return JsonResponse({"tickets": found, "attachment": "QUJDRA==" * 120_000})  # here: large-payload
    return JsonResponse(found, safe=False)


def board(request: HttpRequest) -> HttpResponse:
    def load() -> work.Rows:
        slow = Ticket.objects.extra(where=["length(body) > 20", "id %% 3 > 0"])
        return list(slow.values("state").annotate(count=models.Count("id")))

    return JsonResponse((work.board if "cache-stampede" in FAULTS else work.board_alone)(load), safe=False)


def person(request: HttpRequest, person: int) -> HttpResponse:
    return JsonResponse(PEOPLE.get(next((name for name in PEOPLE if name in FAULTS), ""), known)(person))


def known(person: int) -> dict[str, Any]:
    return {"name": Agent.objects.get(id=person % 500 + 1).name} | ask(person)


def slow(person: int) -> dict[str, Any]:
    return ask(person, 140)  # here: slow-downstream, event-loop-blocked, pool-exhausted, thread-pool-exhausted, worker-count-wrong


def holding_connection(person: int) -> dict[str, Any]:
    return {"agent": Agent.objects.get(id=person % 500 + 1).name} | ask(person, 50)  # here: pool-exhausted


def under_lock(person: int) -> dict[str, Any]:
    with guard:  # here: lock-contention
        counts["asked"] = counts.get("asked", 0) + 1
        return ask(person, 22)


def one_by_one(person: int) -> dict[str, Any]:
    return {"colleagues": [ask(person + number, 5) for number in range(12)]}  # here: n-plus-one-http


def in_sequence(person: int) -> dict[str, Any]:
    profile = ask(person, 40)  # here: sequential-calls
    calendar = ask(person + 1000, 38)  # here: sequential-calls
    leave = ask(person + 2000, 36)  # here: sequential-calls
    return {"profile": profile, "calendar": calendar, "leave": leave}


def stubborn(person: int) -> dict[str, Any]:
    for attempt in range(6):
        try:
            return ask(person, 6, fail=3, attempt=attempt)  # here: retry-storm
        except requests.RequestException:
            time.sleep(0.012)  # here: retry-storm
    return {}


def chatty(person: int) -> dict[str, Any]:
    return {"seen": [cache.get(f"agent:{person}:{field}") for field in range(40)]}  # here: chatty-cache


def crowded(person: int) -> dict[str, Any]:
    return ask(person, 90)  # here: thread-pool-exhausted, worker-count-wrong


def anew(person: int) -> dict[str, Any]:
    return {"name": Agent.objects.get(id=person % 500 + 1).name}  # here: no-keep-alive


PEOPLE = {
    "slow-downstream": slow,
    "pool-exhausted": holding_connection,
    "lock-contention": under_lock,
    "n-plus-one-http": one_by_one,
    "sequential-calls": in_sequence,
    "no-keep-alive": anew,
    "retry-storm": stubborn,
    "chatty-cache": chatty,
    "thread-pool-exhausted": crowded,
    "worker-count-wrong": crowded,
}


def note(request: HttpRequest) -> HttpResponse:
    if "fsync-bound" in FAULTS:
        with open(os.environ["LOG_FILE"] + ".notes", "a") as file:  # noqa: PTH123
            for _ in range(3):
                file.write("note\n")
                file.flush()
                os.fsync(file.fileno())  # here: fsync-bound
    return JsonResponse({"noted": True})


urlpatterns = [
    path("health", health),
    path("tickets/<int:ticket>", show),
    path("inbox", inbox),
    path("threads", threads),
    path("digest", digest),
    path("export", export),
    path("board", board),
    path("people/<int:person>", person),
    path("note", note),
]
app = get_wsgi_application()
