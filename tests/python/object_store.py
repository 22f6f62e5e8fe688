"""An object store that speaks S3 (moto), for the tests. Argument: port on 127.0.0.1."""

import sys

from moto.server import main

main(["-H", "127.0.0.1", "-p", sys.argv[1]])
