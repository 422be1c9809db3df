"""One GET with one check, on Locust's fast client."""

import time

from locust import FastHttpUser, constant, events, task


class Visit(FastHttpUser):
    wait_time = constant(0)

    @task
    def get(self):
        with self.client.get("/", catch_response=True) as reply:
            if reply.status_code != 200:
                reply.failure("not 200")


@events.spawning_complete.add_listener
def begin(user_count, **_):
    Visit.begun = (time.monotonic(), None)


@events.test_start.add_listener
def started(environment, **_):
    Visit.environment = environment


@events.spawning_complete.add_listener
def count(user_count, **_):
    Visit.begun = (time.monotonic(), Visit.environment.stats.total.num_requests)


@events.test_stop.add_listener
def stop(environment, **_):
    at, before = Visit.begun
    print(f"RATE {(environment.stats.total.num_requests - before) / (time.monotonic() - at)}", flush=True)
