"""A gRPC server with the health service of gRPC itself and calls of all four kinds.

Writes `{"port": …}` when it listens, takes commands on standard input (`serving`, `not_serving`, with a
service name behind it), and answers each with `ok`. With a certificate and key it speaks TLS.
"""

import json
import sys
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

raw = {"request_deserializer": None, "response_serializer": None}


def unary(request, context):
    context.set_trailing_metadata((("echo-bin", b"\x00\xff\n"), ("seen", metadata(context, "ask"))))
    return request


def metadata(context, name):
    return dict(context.invocation_metadata()).get(name, "")


def server_stream(request, context):
    for number in range(int(request.decode())):
        yield str(number).encode()


def client_stream(requests, context):
    return str(sum(int(request.decode()) for request in requests)).encode()


def both(requests, context):
    for request in requests:
        yield request[::-1]


def fail(request, context):
    code, message = request.decode().split(" ", 1)
    context.abort(grpc.StatusCode[code], message)


def halfway(request, context):
    yield b"first"
    context.abort(grpc.StatusCode.DATA_LOSS, "halfway")


def slow(request, context):
    # The deadline of the call came through when time is nearly up.
    left = context.time_remaining()
    while context.is_active():
        time.sleep(0.01)
    print(json.dumps({"cancelled": True, "deadline": left is not None}), flush=True)
    return b""


def deadline(request, context):
    left = context.time_remaining()
    return b"none" if left is None or left > 1e6 else str(left).encode()


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary, **raw),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream, **raw),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream, **raw),
        "Both": grpc.stream_stream_rpc_method_handler(both, **raw),
        "Fail": grpc.unary_unary_rpc_method_handler(fail, **raw),
        "Halfway": grpc.unary_stream_rpc_method_handler(halfway, **raw),
        "Slow": grpc.unary_unary_rpc_method_handler(slow, **raw),
        "Deadline": grpc.unary_unary_rpc_method_handler(deadline, **raw),
    }
    generic = grpc.method_handlers_generic_handler("test.Echo", handlers)
    server.add_generic_rpc_handlers((generic,))
    if len(sys.argv) > 2:
        pair = (open(sys.argv[2], "rb").read(), open(sys.argv[1], "rb").read())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    states = health_pb2.HealthCheckResponse
    for line in sys.stdin:
        word, _, service = line.strip().partition(" ")
        state = states.SERVING if word == "serving" else states.NOT_SERVING
        servicer.set(service, state)
        print(json.dumps({"ok": word}), flush=True)
    server.stop(None)


main()
