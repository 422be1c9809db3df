"""Ed25519 by the ``cryptography`` package, which is an extra."""

from __future__ import annotations

from typing import Any

from perfloop.errors import UsageError


def new_key() -> tuple[bytes, str]:
    """A private key (PEM) and its public key (PEM)."""
    serialization, ed25519 = _modules()
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return bytes(private), _public(serialization, key)


def sign(private: bytes, data: bytes) -> tuple[bytes, str]:
    """The signature, and the public key (PEM)."""
    serialization, _ = _modules()
    key = serialization.load_pem_private_key(private, None)
    return bytes(key.sign(data)), _public(serialization, key)


def valid(public: bytes, signature: bytes, data: bytes) -> bool:
    """True where the key's holder signed this."""
    serialization, _ = _modules()
    from cryptography.exceptions import InvalidSignature

    try:
        serialization.load_pem_public_key(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _public(serialization: Any, key: Any) -> str:
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)).decode()


def _modules() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise UsageError("signing needs the package cryptography", why="it is not installed", fix="pip install 'perfloop[sign]'") from None
    return serialization, ed25519
