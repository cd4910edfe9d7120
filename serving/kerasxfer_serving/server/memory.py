"""How many bytes of requests a server holds, and when that is enough."""

from kerasxfer_serving.server.errors import OverloadedError


class Memory:
    """Bytes of all requests in hand, and their limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def open(self) -> "Share":
        """The share of one request, to be closed with it."""
        return Share(self)

    def take(self, size: int) -> None:
        """Take bytes, or say that there are none left."""
        if self._used and self._used + size > self._limit:
            raise OverloadedError(f"Requests hold {self._used:,} bytes already, at most {self._limit:,} may. Retry.")
        self._used += size

    def give_back(self, size: int) -> None:
        """Let go of bytes."""
        self._used -= size


class Share:
    """The bytes that one request holds."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._size = 0

    def grow_to(self, size: int) -> None:
        """Hold `size` bytes in all."""
        if size > self._size:
            self._memory.take(size - self._size)
            self._size = size

    def close(self) -> None:
        """Let go of them."""
        self._memory.give_back(self._size)
        self._size = 0
