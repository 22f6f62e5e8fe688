"""An HTTP/3 client of another implementation (aioquic), driven by the tests.

Arguments: port, host, file of the authority. Talks to 127.0.0.1, asks for pages, changes its port in the middle,
sends a body, and prints one JSON line with what it saw.
"""

import asyncio
import json
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.running = {}

    def quic_event_received(self, event):
        for happened in self.http.handle_event(event):
            entry = self.running.get(getattr(happened, "stream_id", None))
            if entry is None:
                continue
            if isinstance(happened, HeadersReceived):
                entry["headers"] += [(k.decode(), v.decode()) for k, v in happened.headers]
            elif isinstance(happened, DataReceived):
                entry["body"] += happened.data
            if happened.stream_ended and not entry["done"].done():
                entry["done"].set_result(None)

    async def ask(self, authority, method, path, body=b""):
        stream = self._quic.get_next_available_stream_id()
        entry = {"headers": [], "body": b"", "done": asyncio.get_running_loop().create_future()}
        self.running[stream] = entry
        headers = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
            (b"user-agent", b"aioquic"),
        ]
        self.http.send_headers(stream, headers, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        await asyncio.wait_for(entry["done"], 20)
        status = int(dict(entry["headers"])[":status"])
        return {"status": status, "length": len(entry["body"]), "text": entry["body"][:2000].decode()}


async def main(port, host, authority_file):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=host)
    configuration.load_verify_locations(authority_file)
    authority = f"{host}:{port}"
    seen = {}
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
        seen["get"] = await client.ask(authority, "GET", "/first")
        seen["post"] = await client.ask(authority, "POST", "/body", b"b" * 200_000)
        loop = asyncio.get_running_loop()
        old = client._transport
        moved, _ = await loop.create_datagram_endpoint(lambda: client, local_addr=("::", 0))
        client._transport = moved
        seen["ports"] = [old.get_extra_info("sockname")[1], moved.get_extra_info("sockname")[1]]
        client.change_connection_id()
        seen["moved"] = await client.ask(authority, "GET", "/moved")
        many = await asyncio.gather(*[client.ask(authority, "GET", f"/{n}") for n in range(50)])
        seen["many"] = [answer["status"] for answer in many]
    print(json.dumps(seen))


asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
