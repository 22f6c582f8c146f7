"""A SIM800C or SIM7000 on a pseudo terminal: what a serial line shows of it, with a fake network behind.

``python -m simulators.modem --link PATH`` runs it alone. ``PATH`` is a symbolic link to the terminal, stable
over replugging, so that a client opens it like ``/dev/ttyUSB0``.

Commands and answers follow 3GPP TS 27.005 and TS 27.007 as SIMCom's firmware gives them, with the SIM as the
only storage.
"""

from simulators.modem.device import Modem, PowerCut

__all__ = ["Modem", "PowerCut"]
