"""What stands in front of several web servers: it takes turns among those whose /readyz says 200."""

import http.client
import itertools
import select
import socket
import socketserver
import threading
from typing import Any

CHECKED_EACH_SECONDS = 0.2
LONGEST_WAIT = 60


class RoundRobin:
    """A balancer on loopback. It tries no request twice, so a request that one server drops is lost."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._ready: tuple[int, ...] = ()
        self._turn = itertools.count()
        self._end = threading.Event()
        self._look()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}),
            threading.Thread(target=self._keep_looking),
        ]

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def ready(self) -> tuple[int, ...]:
        """The servers that get requests."""
        return self._ready

    def __enter__(self) -> "RoundRobin":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()

    def _keep_looking(self) -> None:
        while not self._end.wait(CHECKED_EACH_SECONDS):
            self._look()

    def _look(self) -> None:
        self._ready = tuple(port for port in self._ports if _is_ready(port))

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        balancer = self

        class Forward(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                ready = balancer.ready
                port = ready[next(balancer._turn) % len(ready)]
                with socket.create_connection(("127.0.0.1", port), LONGEST_WAIT) as behind:
                    _carry(self.request, behind)

        return Forward


def _is_ready(port: int) -> bool:
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asked.request("GET", "/readyz")
        return asked.getresponse().status == 200
    except OSError:
        return False
    finally:
        asked.close()


def _carry(one: Any, other: Any) -> None:
    """Bytes in both directions, until either side has no more."""
    opposite = {one: other, other: one}
    while True:
        readable, _, _ = select.select([one, other], [], [], LONGEST_WAIT)
        for side in readable:
            data = side.recv(65536)
            if not data:
                return
            opposite[side].sendall(data)
        if not readable:
            return
