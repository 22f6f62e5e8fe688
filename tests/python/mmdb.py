"""Writes a database in the MaxMind format with mmdb-writer, for the tests.

Arguments: the file to write, and a JSON object of networks and what is known about them.
"""

import json
import sys

from mmdb_writer import MMDBWriter
from netaddr import IPSet

path, networks = sys.argv[1], json.loads(sys.argv[2])
writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Tests-City", languages=["en"])
for network, known in networks.items():
    writer.insert_network(IPSet([network]), known)
writer.to_db_file(path)
