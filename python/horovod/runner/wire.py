"""Messages between a launcher and its workers, over TCP; docs/spec/horovod-elastic.md has the format.

A Session holds one side of one connection and does no input or output of its own: bytes that came in go to feed(),
bytes to be sent lie in `outgoing`.  Neither side acts on anything before the other has proved that it knows the
secret; a message that was changed, repeated or reordered ends the connection.
"""
import hashlib
import hmac
import json
import os
import struct
from typing import List, Tuple

MAGIC = b"TYHD\x01"
NONCE = MAC = 32
MAX_BODY = 1 << 30


class WireError(Exception):
    """The other side cannot be believed, or does not speak this format."""


class Session:
    """`server`: this is the launcher's side."""

    def __init__(self, secret: str, server: bool):
        self._secret, self._server = secret.encode(), server
        self._nonce = os.urandom(NONCE)
        self._in = bytearray()
        self._keys = None           # (of what we send, of what we get)
        self._sent = self._got = 0
        self._state = "hello"
        self.outgoing = bytearray(MAGIC + self._nonce if server else b"")

    @property
    def ready(self) -> bool:
        """Whether the other side has proved that it knows the secret."""
        return self._state == "open"

    def _mac(self, key, *parts):
        return hmac.new(key, b"".join(parts), hashlib.sha256).digest()

    def _agree(self, server_nonce, client_nonce):
        both = server_nonce + client_nonce
        names = (b"server", b"client") if self._server else (b"client", b"server")
        self._keys = tuple(self._mac(self._secret, b"key of ", name, both) for name in names)
        return tuple(self._mac(self._secret, b"proof of ", name, both) for name in names)

    def _check(self, expected, got):
        if not hmac.compare_digest(expected, bytes(got)):
            raise WireError("the other side does not know the secret of this job")

    def _take(self, n):
        taken = bytes(self._in[:n])
        del self._in[:n]
        return taken

    def _shake(self):
        """One step of the handshake; False when more bytes are needed."""
        if self._server:
            if len(self._in) < NONCE + MAC:
                return False
            mine, theirs = self._agree(self._nonce, self._take(NONCE))
            self._check(theirs, self._take(MAC))
            self.outgoing += mine
            self._state = "open"
        elif self._state == "hello":
            if len(self._in) < len(MAGIC) + NONCE:
                if not MAGIC.startswith(bytes(self._in[:len(MAGIC)])):
                    raise WireError("the other side is no launcher of this version")
                return False
            if self._take(len(MAGIC)) != MAGIC:
                raise WireError("the other side is no launcher of this version")
            mine, self._proof = self._agree(self._take(NONCE), self._nonce)
            self.outgoing += self._nonce + mine
            self._state = "proof"
        else:
            if len(self._in) < MAC:
                return False
            self._check(self._proof, self._take(MAC))
            self._state = "open"
        return True

    def feed(self, data: bytes) -> List[Tuple[dict, bytes]]:
        """The messages that are complete with `data`."""
        self._in += data
        found = []
        while self._state != "open":
            if not self._shake():
                return found
        while len(self._in) >= 4:
            n = struct.unpack_from(">I", self._in)[0]
            if n > MAX_BODY:
                raise WireError("a message of %d bytes; the limit is %d" % (n, MAX_BODY))
            if len(self._in) < 4 + n + MAC:
                break
            head, body, mac = self._take(4), self._take(n), self._take(MAC)
            self._check(self._mac(self._keys[1], struct.pack(">Q", self._got), head, body), mac)
            self._got += 1
            found.append(self._parse(body))
        return found

    @staticmethod
    def _parse(body):
        line, _, payload = body.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("op"), str):
            raise WireError("a message that is no JSON object with 'op'")
        return message, payload

    def send(self, message: dict, payload: bytes = b"") -> None:
        """Append a message to `outgoing`."""
        body = json.dumps(message).encode() + b"\n" + payload
        if len(body) > MAX_BODY:
            raise ValueError("%d bytes are too many for one message; the limit is %d" % (len(body), MAX_BODY))
        head = struct.pack(">I", len(body))
        self.outgoing += head + body + self._mac(self._keys[0], struct.pack(">Q", self._sent), head, body)
        self._sent += 1
