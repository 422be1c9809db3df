"""Kills, faults and clock jumps at system calls: the harness of ``bench/safety.py`` and of the sample in ``tests/crash``."""
