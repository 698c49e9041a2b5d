"""Python's grpcio under the workloads of `bench bus`. Usage: grpcio_peer.py unary|stream|publish SIZE SECONDS

A server in a process of its own, a client in this one; prints one JSON object: latencies (microseconds, unary only),
messages, seconds.
"""
import json
import multiprocessing
import sys
import time
from concurrent import futures

import grpc


def serve(ports, stop):
    def publish(request, context):
        size, seconds = (float(word) for word in request.split())
        message, end = bytes(int(size)), time.perf_counter() + seconds
        while time.perf_counter() < end:
            yield message

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
        "Stream": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
        "Publish": grpc.unary_stream_rpc_method_handler(publish),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    ports.put(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    stop.wait()
    server.stop(0)


def unary(channel, size, seconds):
    call, message, latencies = channel.unary_unary("/bench.Echo/Unary"), bytes(size), []
    begin = last = time.perf_counter()
    while last < begin + seconds:
        call(message)
        now = time.perf_counter()
        latencies.append((now - last) * 1e6)
        last = now
    return {"latencies": latencies, "messages": len(latencies), "seconds": last - begin}


def stream(channel, size, seconds):
    begin, message = time.perf_counter(), bytes(size)

    def requests():
        while time.perf_counter() < begin + seconds:
            yield message

    messages = sum(1 for _ in channel.stream_stream("/bench.Echo/Stream")(requests()))
    return {"messages": messages, "seconds": time.perf_counter() - begin}


def publish(channel, size, seconds):
    begin = time.perf_counter()
    request = f"{size} {seconds}".encode()
    messages = sum(1 for _ in channel.unary_stream("/bench.Echo/Publish")(request))
    return {"messages": messages, "seconds": time.perf_counter() - begin}


def main():
    workload = {"unary": unary, "stream": stream, "publish": publish}[sys.argv[1]]
    context = multiprocessing.get_context("spawn")
    ports, stop = context.Queue(), context.Event()
    server = context.Process(target=serve, args=(ports, stop))
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{ports.get(timeout=30)}") as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
            print(json.dumps(workload(channel, int(sys.argv[2]), float(sys.argv[3]))))
    finally:
        stop.set()
        server.join(10)


if __name__ == "__main__":
    main()
