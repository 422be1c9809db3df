"""What we saw: probes that look at the machine, the processes, their sockets, their stacks and their database while load runs."""

#: The probes that come with perfloop, by module; third parties add theirs by the entry-point group ``perfloop.probes``.
BUILTIN = (
    "perfloop.observe.probes.host",
    "perfloop.observe.probes.process",
    "perfloop.observe.probes.cgroup",
    "perfloop.observe.probes.sockets",
    "perfloop.observe.probes.waits",
    "perfloop.observe.probes.stacks",
    "perfloop.observe.probes.collector",
    "perfloop.observe.probes.calls",
    "perfloop.observe.probes.postgres",
    "perfloop.observe.probes.postgres_health",
    "perfloop.observe.probes.mysql",
    "perfloop.observe.probes.redis",
    "perfloop.observe.probes.memcached",
    "perfloop.observe.probes.mongodb",
)
