"""A gRPC client: runs one call of each kind and writes what came of it as JSON, one object a line.

Arguments: address, authority, the file with the root certificate, then calls: method, kind, input,
and `deadline=<seconds>`. Input of streams is separated by commas.
"""

import json
import sys
import time

import grpc


def outcome(call):
    """What a finished call has to say for itself."""
    trailing = {key: value.hex() if isinstance(value, bytes) else value for key, value in call.trailing_metadata() or ()}
    return {"code": call.code().name, "message": call.details(), "trailers": trailing}


def run(channel, method, kind, text, timeout):
    path = "/test.Echo/" + method
    items = [item.encode() for item in text.split(",")]
    metadata = (("ask", "what"),)
    try:
        if kind == "unary":
            call = channel.unary_unary(path).future(items[0], timeout=timeout, metadata=metadata)
            answers = [call.result()]
        elif kind == "server":
            call = channel.unary_stream(path)(items[0], timeout=timeout)
            answers = []
            for answer in call:
                answers.append(answer)
        elif kind == "client":
            call = channel.stream_unary(path).future(iter(items), timeout=timeout)
            answers = [call.result()]
        else:
            # One at a time: the next message is sent when the answer to the one before is here.
            answers = []
            gate = iter(items)
            pending = []

            def messages():
                for item in gate:
                    while len(answers) < len(pending):
                        time.sleep(0.001)
                    pending.append(item)
                    yield item

            call = channel.stream_stream(path)(messages(), timeout=timeout)
            for answer in call:
                answers.append(answer)
    except grpc.RpcError as error:
        answers = locals().get("answers", [])
        call = error if hasattr(error, "code") else call
    return {"answers": [answer.decode() for answer in answers], **outcome(call)}


def main():
    address, authority, roots = sys.argv[1:4]
    credentials = grpc.ssl_channel_credentials(open(roots, "rb").read())
    options = [("grpc.default_authority", authority), ("grpc.ssl_target_name_override", authority.split(":")[0]),
               ("grpc.enable_retries", 0)]
    with grpc.secure_channel(address, credentials, options) as channel:
        for spec in sys.argv[4:]:
            method, kind, text, timeout = spec.split("|")
            print(json.dumps(run(channel, method, kind, text, float(timeout))), flush=True)


main()
