"""The same load from many machines, on dask.distributed: one shard a worker, begun together, merged without loss.

Not a protocol of our own: connection, TLS and liveness are dask's. What it must not do is made sure here: a shard is never sent twice (retries 0, allowed failures 0, and a
shard refuses to begin late), each worker asks its own allow-list, and different versions refuse each other.
"""
