"""An identity provider for tests: keys, and the JSON Web Tokens that they sign."""

import base64
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER = "https://issuer.example"
AUDIENCE = "eudai"


class Signer:
    """One key of the provider."""

    def __init__(self, key_id: str, algorithm: str = "ES256") -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        self.key: Any = _new_key(algorithm)

    @property
    def public(self) -> dict[str, Any]:
        """The public key, as in a JWKS file."""
        described: dict[str, Any] = json.loads(
            get_default_algorithms()[self.algorithm].to_jwk(self.key.public_key())
        )
        return described | {"kid": self.key_id, "alg": self.algorithm, "use": "sig"}

    def sign(self, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """A valid token with these changes; a claim that is None is left out."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ada",
            "exp": int(time.time()) + 600,
            "scope": "openid generate embed",
        }
        claims = {name: value for name, value in (claims | changes).items() if value is not None}
        return jwt.encode(
            claims, self.key, self.algorithm, headers={"kid": self.key_id, **(headers or {})}
        )

    def forge(self, algorithm: str) -> str:
        """A token that nobody with the key has signed: with "none", or HMAC with the public key."""
        public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        claims = self.sign().split(".")[1]
        header = json.dumps({"alg": algorithm, "kid": self.key_id}).encode()
        head = f"{base64.urlsafe_b64encode(header).rstrip(b'=').decode()}.{claims}"
        signature = b""
        if algorithm != "none":
            signature = hmac.digest(public, head.encode(), "sha256")
        return f"{head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def key_set(*signers: Signer) -> str:
    """The content of a JWKS file."""
    return json.dumps({"keys": [signer.public for signer in signers]})


def _new_key(algorithm: str) -> Any:
    if algorithm[:2] in ("RS", "PS"):
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return ec.generate_private_key(curves[algorithm])
