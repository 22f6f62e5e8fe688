"""Starts a program with open sockets, as a service manager does: one of TCP and one of UDP at the same address.

Arguments: port, then the program and its arguments.
"""

import fcntl
import os
import socket
import sys

FIRST = 3

address = ("127.0.0.1", int(sys.argv[1]))
tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
tcp.bind(address)
tcp.listen()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(address)
# Out of the way first: one of them may be where the other is to go.
aside = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 100) for each in (tcp, udp)]
for number, each in enumerate(aside):
    os.dup2(each, FIRST + number, inheritable=True)
    os.close(each)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="main:main")
os.execv(sys.argv[2], sys.argv[2:])
