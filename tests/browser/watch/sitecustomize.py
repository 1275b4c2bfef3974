"""Loaded by every Python of a watched JupyterLab: writes down whom the process tries to reach.

`Lab` puts this folder on PYTHONPATH and reads the file named by WATCH_LOG.
"""

import os
import socket
import sys

AT_HOME = {"", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::", socket.gethostname()}


def watch(event: str, arguments: tuple) -> None:
    """Audit hook: note every host other than this machine that is looked up or connected to."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host or ""
    if host not in AT_HOME:
        with open(os.environ["WATCH_LOG"], "a", encoding="utf-8") as log:
            log.write(f"{event} {host}\n")


sys.addaudithook(watch)
