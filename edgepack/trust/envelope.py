"""What is signed and how it is written: a DSSE envelope in a Sigstore bundle, as OpenSSF Model Signing (OMS) has it.

Source: model-signing 1.1.1, whose command line verifies what is written here, and whose signatures are verified here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

import rfc8785

from edgepack.trust.keys import SigningKey
from edgepack.trust.rules import rules


def statement(name: str, files: Mapping[str, str]) -> bytes:
    """The in-toto statement that vouches for `files`, the SHA-256 digests by path; canonical JSON.

    Args:
        name: what it is called; no rule depends on it.
    """
    paths = sorted(files, key=PurePosixPath)
    whole = sha256(b"".join(bytes.fromhex(files[path]) for path in paths)).hexdigest()
    data: dict[str, Any] = {
        "_type": rules().STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": whole}}],
        "predicateType": rules().PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [rules().SIGNATURE],
            },
            "resources": [
                {"name": path, "algorithm": "sha256", "digest": files[path]} for path in paths
            ],
        },
    }
    return bytes(rfc8785.dumps(data))


def sealed(payload: bytes, payload_type: str, key: SigningKey) -> bytes:
    """The signature file over `payload`: compact JSON."""
    signature = key.sign(rules().pae(payload_type, payload))
    data = {
        "mediaType": rules().MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.id}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(data, separators=(",", ":")).encode()
