"""How a client proves to a camera that it knows the password: Digest where the camera offers it, else Basic."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

from pix2pix_edge.runtime.addresses import Address


def authorization_for(challenges: list[str], address: Address, target: str) -> str:
    """Return the Authorization header, with its line's end, that answers a 401: RFC 7616, else RFC 7617.

    challenges: of which one may hold several. "" where they ask for none of the two.
    """
    text = ", ".join(challenges)
    digest = re.search(r"(?i)(?:^|,)\s*digest\s+(.*)", text)
    if digest is None:
        if text and not re.search(r"(?i)(?:^|,)\s*basic\b", text):
            return ""
        word = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        return f"Authorization: Basic {word}\r\n"
    pairs = re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', digest[1])
    asked = {key.lower(): quoted or bare for key, quoted, bare in reversed(pairs)}  # the first challenge's own
    algorithm = asked.get("algorithm", "").upper().removesuffix("-SESS")
    algorithm = {"SHA-256": "sha256", "SHA-512-256": "sha512_256"}.get(algorithm, "md5")

    def hashed(*words: str) -> str:
        return hashlib.new(algorithm, ":".join(words).encode(), usedforsecurity=False).hexdigest()

    realm, nonce, mine = asked.get("realm", ""), asked.get("nonce", ""), secrets.token_hex(8)
    secret = hashed(address.user, realm, address.password)
    if asked.get("algorithm", "").lower().endswith("-sess"):
        secret = hashed(secret, nonce, mine)
    plain = "qop" not in asked
    between = (nonce,) if plain else (nonce, "00000001", mine, "auth")
    fields = {
        "username": address.user.replace("\\", "\\\\").replace('"', '\\"'),
        "realm": realm,
        "nonce": nonce,
        "uri": target,
        "response": hashed(secret, *between, hashed("GET", target)),
        **({"opaque": asked["opaque"]} if "opaque" in asked else {}),
        **({} if plain else {"cnonce": mine}),
    }
    text = ", ".join(f'{key}="{value}"' for key, value in fields.items())
    text += f", algorithm={asked['algorithm']}" if "algorithm" in asked else ""
    return f"Authorization: Digest {text}{'' if plain else ', qop=auth, nc=00000001'}\r\n"
