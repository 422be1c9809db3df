"""A real scheduler and workers of dask.distributed: on loopback, or each worker in a network namespace of its own, reached by TLS."""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.server import end, free_port

START_MAX_S = 60.0


@dataclass(frozen=True)
class Cluster:
    """``address`` is the scheduler's; ``workers`` are the processes; ``target_host`` is our address as the workers see it."""

    address: str
    workers: tuple[subprocess.Popen[bytes], ...]
    folder: Path
    target_host: str = "127.0.0.1"


@contextmanager
def dask_cluster(folder: Path, count: int = 2, env: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Scheduler and workers on loopback, without TLS."""
    port = free_port()
    with ExitStack() as stack:
        _start(stack, folder, "scheduler", ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"], {})
        address = f"tcp://127.0.0.1:{port}"
        workers = [
            _start(stack, folder, f"worker{i}", ["worker", address, *_WORKER, "--host", "127.0.0.1", "--name", f"w{i}"], env or {}) for i in range(count)
        ]
        _await(folder, count)
        yield Cluster(address, tuple(workers), folder)


@contextmanager
def dask_namespaces(folder: Path, count: int = 2, env: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """As many workers, each in a network namespace of its own behind a veth pair (needs root), the scheduler here; everything by TLS."""
    files = certificates(folder)
    tls = ["--tls-ca-file", files["ca"], "--tls-cert", files["cert"], "--tls-key", files["key"]]
    port, mark, net = free_port(), secrets.token_hex(2), 10 + secrets.randbelow(200)
    with ExitStack() as stack:
        hosts = []
        for i in range(count):
            here, there = f"198.18.{net}.{4 * i + 1}", f"198.18.{net}.{4 * i + 2}"
            _namespace(stack, f"pl{mark}{i}", f"pv{mark}{i}", here, there)
            hosts.append((f"pl{mark}{i}", here, there))
        _start(
            stack, folder, "scheduler", ["scheduler", "--protocol", "tls", "--host", "0.0.0.0", "--port", str(port), "--no-dashboard", "--no-show", *tls], {}
        )
        workers = [
            _start(
                stack,
                folder,
                f"worker{i}",
                ["worker", f"tls://{here}:{port}", *_WORKER, *tls, "--host", there, "--name", f"w{i}"],
                env or {},
                ("ip", "netns", "exec", name),
            )
            for i, (name, here, there) in enumerate(hosts)
        ]
        _await(folder, count)
        yield Cluster(f"tls://{hosts[0][1]}:{port}", tuple(workers), folder, hosts[0][1])


_WORKER = ["--no-dashboard", "--no-nanny", "--nthreads", "1", "--memory-limit", "0", "--death-timeout", "30"]


def certificates(folder: Path) -> dict[str, str]:
    """A CA of the test's and one certificate by it, as paths."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def key_and_name(name: str):
        return ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    now = datetime.datetime.now(datetime.UTC)
    ca_key, ca_name = key_and_name("perfloop test CA")
    own_key, own_name = key_and_name("perfloop test")

    def signed(name, key, ca):
        made = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=2))
        if not ca:
            made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        return made.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True).sign(ca_key, hashes.SHA256())

    found = {}
    for name, data in (
        ("ca", signed(ca_name, ca_key, True).public_bytes(serialization.Encoding.PEM)),
        ("cert", signed(own_name, own_key, False).public_bytes(serialization.Encoding.PEM)),
        ("key", own_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())),
    ):
        path = folder / f"{name}.pem"
        path.write_bytes(data)
        found[name] = str(path)
    return found


def _namespace(stack: ExitStack, name: str, link: str, here: str, there: str) -> None:
    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)

    ip("netns", "add", name)
    stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False, capture_output=True, timeout=10)
    ip("link", "add", f"{link}a", "type", "veth", "peer", "name", f"{link}b", "netns", name)
    ip("addr", "add", f"{here}/30", "dev", f"{link}a")
    ip("link", "set", f"{link}a", "up")
    for arguments in (
        ("addr", "add", f"{there}/30", "dev", f"{link}b"),
        ("link", "set", f"{link}b", "up"),
        ("link", "set", "lo", "up"),
        ("route", "add", "default", "via", here),
    ):
        ip("-n", name, *arguments)


def _start(stack: ExitStack, folder: Path, name: str, arguments: Sequence[str], env: Mapping[str, str], before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "dask", *arguments],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            process_group=0,
            env={**os.environ, **env},
        )
    stack.callback(end, process)
    return process


def _await(folder: Path, count: int) -> None:
    until = time.monotonic() + START_MAX_S
    while time.monotonic() < until:
        log = (folder / "scheduler.log").read_text(errors="replace")
        if log.count("Starting worker compute stream") >= count and "Scheduler at" in log:
            return
        time.sleep(0.1)
    logs = "".join(path.read_text(errors="replace")[-1500:] for path in sorted(folder.glob("*.log")))
    raise RuntimeError(f"{count} workers did not register: {logs}")
