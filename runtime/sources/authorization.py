"""How a client proves to a camera that it knows the password: Digest where the camera offers it, else Basic."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

from pix2pix_edge.runtime.addresses import Address


def authorization_for(challenges: list[str], address: Address, target: str) -> str:
    """Return the Authorization header, with its line's end, that answers a 401: RFC 7616, else RFC 7617."""
    digest = next((text for text in challenges if text.lower().startswith("digest")), None)
    if digest is None:
        word = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        return f"Authorization: Basic {word}\r\n"
    asked = {key.lower(): quoted or bare for key, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', digest)}
    algorithm = "sha256" if asked.get("algorithm", "").upper().startswith("SHA-256") else "md5"

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
