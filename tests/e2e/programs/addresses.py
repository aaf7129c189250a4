"""A line for each name: the name, then its addresses by socket.getaddrinfo, or why there are none."""

import socket
import sys

for name in sys.argv[1:]:
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except socket.gaierror as error:
        found = ["unknown" if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else str(error)]
    print(name, *found)
