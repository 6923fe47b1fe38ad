"""The rules of trust as a board applies them, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from edgepack.errors import TrustError
from edgepack.resources import RUNTIME, load_shipped


@lru_cache(maxsize=1)
def rules() -> ModuleType:
    """`edgepack_trust.py`, the file that goes to boards, as a module."""
    return load_shipped(RUNTIME / "agent" / "edgepack_trust.py")


@contextmanager
def refusals() -> Iterator[None]:
    """A refusal by the rules leaves as a TrustError of its kind."""
    try:
        yield
    except rules().Refusal as refusal:
        raise TrustError(refusal.cause, refusal.fix, kind=refusal.kind) from refusal


def checker() -> Any:
    """How signatures are checked here: by `cryptography` where it is installed, else by the openssl program, as on a board."""
    return cryptography_check if find_spec("cryptography") else rules().openssl_check


def cryptography_check(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the key's over `message`; arguments as the rules' `Check`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        public = load_der_public_key(key)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):  # ValueError: the point is not on the curve
        return False
    return True
