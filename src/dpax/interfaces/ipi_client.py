"""A client of i-PI, or of another program that speaks its protocol, over a socket: ASE's."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import ase
from ase.calculators.socketio import SocketClient

from dpax.errors import InputError
from dpax.infer import Potential
from dpax.interfaces.ase import Calculator

_PAUSE = 0.2
"""Seconds between two tries to connect."""


@dataclass(frozen=True)
class Address:
    """Where the server listens: the name of a UNIX socket, or a host and a port."""

    unix: str | None = None
    host: str = "localhost"
    port: int = 31415

    def __str__(self) -> str:
        return f"/tmp/ipi_{self.unix}" if self.unix else f"{self.host}:{self.port}"


def connect(address: Address, patience: float = 0.0) -> SocketClient:
    """Connect to a server.

    Args:
        address: of the server.
        patience: how long to wait for a server that is not there yet, seconds.

    Raises:
        InputError: there is none.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return SocketClient(address.host, address.port, unixsocket=address.unix)
        except OSError as error:
            if time.monotonic() >= deadline:
                raise InputError(
                    f"nobody listens at {address} ({error.strerror or error}); start i-PI first, with this "
                    "address in its <ffsocket>"
                ) from None
        time.sleep(_PAUSE)


def serve(client: SocketClient, potential: Potential, atoms: ase.Atoms) -> Iterator[int]:
    """Answer a server's questions until it says goodbye or disappears; yields their number.

    Args:
        client: from `connect`.
        potential: what answers.
        atoms: the elements, in the server's order, and where the structure is periodic. Positions and cell
            come from the server. The virial is that of a structure periodic in all directions; others send
            zeros.

    Raises:
        InputError: the potential does not know an element, or the positions make no sense.
    """
    structure = atoms.copy()
    structure.calc = Calculator(potential)
    structure.get_potential_energy()  # errors appear before the server asks
    count = 0
    try:
        for _ in client.irun(structure, use_stress=bool(structure.pbc.all())):
            count += 1
            yield count
    except OSError:  # the server's end of the socket is gone; ASE has only half of the cases
        return
