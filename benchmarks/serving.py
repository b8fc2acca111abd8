"""The embedded server under load, over loopback: overhead, throughput, overload, hot swaps and memory.

    python -m benchmarks.serving [overhead throughput overload swap memory] [--model saved_models/dates]

The server is a process of its own; clients and server share the machine's cores. Every answer is compared with the
one that the same SavedModel gave in this process. Without a model of the recipe `dates`, a dense one stands in.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.load import Outcome, closed_loop, http_request, open_loop

CLIENTS, SECONDS = 64, 20
BATCHING = """max_batch_size {{ value: {size} }} batch_timeout_micros {{ value: {wait} }}
max_enqueued_batches {{ value: {queue} }} num_batch_threads {{ value: {threads} }} {allowed}"""


class Server:
    """`python -m keras_seqattn.serving` in a process of its own."""

    def __init__(self, models, *flags, batching=None):
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        configs = (
            f'config {{ name: "{name}" base_path: "{Path(path).resolve()}" model_platform: "tensorflow" }}'
            for name, path in models.items()
        )
        (root / "models.config").write_text(f"model_config_list {{ {' '.join(configs)} }}")
        self.port, self.grpc_port = free_port(), free_port()
        command = [sys.executable, "-m", "keras_seqattn.serving", "--engine=embedded", *flags]
        command.append(f"--model_config_file={root / 'models.config'}")
        command += [f"--rest_api_port={self.port}", f"--port={self.grpc_port}"]
        if batching is not None:
            (root / "batching.config").write_text(batching)
            command += ["--enable_batching", f"--batching_parameters_file={root / 'batching.config'}"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = ""
        while "Try:" not in said:
            line = self.process.stderr.readline()
            said += line
            if not line:
                raise RuntimeError(said)
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def resident_mib(self):
        """Memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        self.folder.cleanup()


def free_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def write_model(folder, result, **inputs):
    """A SavedModel of one function; inputs as name=(shape, dtype)."""
    import tensorflow as tf

    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()}
    module = tf.Module()
    module.call = tf.function(result)
    tf.saved_model.save(module, str(folder), signatures=module.call.get_concrete_function(**specs))


def write_scaling(folder, version, megabytes=0):
    """y = version * x, so that an answer tells which version gave it; with so much memory in a variable."""
    import tensorflow as tf

    module = tf.Module()
    module.ballast = tf.Variable(tf.random.stateless_uniform([megabytes * 2**18], (0, 1)))
    module.call = tf.function(
        lambda x: {"y": x * float(version) + 0 * module.ballast[:1] if megabytes else x * float(version)}
    )
    signature = module.call.get_concrete_function(x=tf.TensorSpec([None], tf.float32, name="x"))
    writing = folder / f".{version}.writing"
    tf.saved_model.save(module, str(writing), signatures=signature)
    os.rename(writing, folder / str(version))


def expect(document):
    """A judge of answers: the JSON of `document`, numbers to 1e-4."""

    def is_right(body):
        try:
            return same(json.loads(body), document)
        except ValueError:
            return False

    return is_right


def same(one, other):
    if isinstance(other, dict):
        return isinstance(one, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in other)
    if isinstance(other, list):
        return isinstance(one, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(other, float):
        return isinstance(one, float | int) and abs(one - other) <= 1e-4 * max(1, abs(other))
    return one == other


def report(title, outcome):
    print(
        f"  {title:50} {outcome.rate:6.0f}/s   median {outcome.percentile(0.5):7.2f} ms   "
        f"99 % {outcome.percentile(0.99):7.2f} ms   refused {outcome.refused}   wrong {len(outcome.wrong)}"
    )
    for status, body in outcome.wrong[:3]:
        print(f"    wrong: {status} {body!r}")


def overhead():
    """A model that does nothing, one client."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    print("\nOverhead: y = x, one client, one row")
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "1", lambda x: {"y": tf.identity(x)}, x=([None], "float32"))
        with Server({"noop": folder}) as server:
            body = http_request("/v1/models/noop:predict", b'{"instances": [1.5]}')
            requests = [(body, expect({"predictions": [1.5]}))]
            closed_loop(server.port, requests, 1, count=300)
            report("REST", closed_loop(server.port, requests, 1, count=3000))

            request = predict_pb2.PredictRequest()
            request.model_spec.name = "noop"
            request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.5]))
            with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
                predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
                outcome, began = Outcome(), time.perf_counter()
                for turn in range(3300):
                    sent = time.perf_counter()
                    answer = predict(request)
                    seconds = time.perf_counter() - sent
                    if list(answer.outputs["y"].float_val) != [1.5]:
                        outcome.wrong.append((0, repr(answer).encode()))
                    elif turn >= 300:
                        outcome.seconds.append(seconds)
                outcome.wall_seconds = time.perf_counter() - began
            report("gRPC", outcome)


def texts_and_answers(model):
    """Requests for a text model, and its servable in this process."""
    from keras_seqattn.serving.models.servable import load_saved_model

    (version,) = sorted(path for path in Path(model).iterdir() if path.name.isdecimal())[-1:]
    servable = load_saved_model(version)
    (name,) = servable.signatures["serving_default"].inputs
    rng = np.random.default_rng(0)
    months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October"]
    texts = [f"{rng.integers(1, 29)} {rng.choice(months)} {rng.integers(1950, 2050)}" for _ in range(512)]
    return servable, name, texts


def dense_model(folder):
    """Two layers of 512 on 128 numbers, where there is no trained model."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    first, second = (tf.constant(rng.normal(0, 0.05, shape), tf.float32) for shape in ((128, 512), (512, 512)))
    write_model(
        Path(folder) / "1", lambda x: {"y": tf.nn.relu(x @ first) @ second @ second}, x=([None, 128], "float32")
    )


def in_process(servable, name, rows, threads, size):
    """Rows a second from so many threads that run batches of `size` rows."""
    batch = {name: rows[:size]}
    servable.run("serving_default", batch)
    stop, counts = time.perf_counter() + 3, []

    def work():
        count = 0
        while time.perf_counter() < stop:
            servable.run("serving_default", batch)
            count += size
        counts.append(count)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)


def prepared(model, folder):
    """Path, requests with their judges, servable and rows of a model."""
    if not model:
        dense_model(folder)
        model = folder
    if model == folder:
        from keras_seqattn.serving.models.servable import load_saved_model

        servable, name = load_saved_model(Path(folder) / "1"), "x"
        rows = np.random.default_rng(1).normal(size=(512, 128)).astype("float32")
        plain = [[round(float(value), 4) for value in row] for row in rows]
        rows = np.array(plain, "float32")
    else:
        servable, name, plain = texts_and_answers(model)
        rows = np.array([text.encode() for text in plain], dtype=object)
    outputs = servable.run("serving_default", {name: rows})
    answers = [{key: plain_value(array[i]) for key, array in outputs.items()} for i in range(len(plain))]
    answers = [next(iter(answer.values())) if len(answer) == 1 else answer for answer in answers]
    return model, partial(requests_of, plain, answers), servable, name, rows


def requests_of(plain, answers, size=1):
    """Requests of `size` rows each, with their judges."""
    requests = []
    for start in range(0, len(plain) - size + 1, size):
        body = json.dumps({"instances": plain[start : start + size]}).encode()
        wanted = {"predictions": answers[start : start + size]}
        requests.append((http_request("/v1/models/m:predict", body), expect(wanted)))
    return requests


def plain_value(value):
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if hasattr(value, "tolist") else value


def batching(size, wait=2000, queue=1000, threads=None):
    allowed = " ".join(f"allowed_batch_sizes: {n}" for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= size)
    return BATCHING.format(size=size, wait=wait, queue=queue, threads=threads or os.cpu_count(), allowed=allowed)


def throughput(model):
    """64 clients of 1, 8 and 32 rows a request, against the same SavedModel called in process."""
    with tempfile.TemporaryDirectory() as folder:
        path, requests, servable, name, rows = prepared(model, folder)
        print(f"\nThroughput: {path}, {CLIENTS} clients, {SECONDS} s each")
        cores = os.cpu_count() or 1
        rates = {
            (threads, size): in_process(servable, name, rows, threads, size)
            for size in (1, 8, 32, 64, 128)
            for threads in (1, cores)
        }
        for (threads, size), rate in rates.items():
            print(f"  in process, {threads} at a time, batches of {size:3}: {rate:6.0f} rows/s")
        best = max(rates.values())
        in_flight = max(rate for (threads, size), rate in rates.items() if threads * size <= CLIENTS)
        print(f"  the best of all: {best:.0f}; the best with {CLIENTS} rows at a time: {in_flight:.0f}")
        for size, options in ((1, None), (1, batching(32, 20_000, threads=1)), (8, batching(128)), (32, batching(128))):
            asked = requests(size)
            with Server({"m": path}, batching=options) as server:
                closed_loop(server.port, asked, CLIENTS, seconds=3)
                outcome = closed_loop(server.port, asked, CLIENTS, seconds=SECONDS)
            how = "batches" if options else "each alone"
            report(f"{size} rows a request, {how} ({size * outcome.rate / best:.2f} of the best)", outcome)


def overload(model):
    """Open loop: requests come at their times, at half, 0.8 and 1.5 times what the server can do."""
    with tempfile.TemporaryDirectory() as folder:
        path, requests_of_size, _, _, _ = prepared(model, folder)
        requests = requests_of_size(1)
        print(f"\nOpen loop: {path}, {SECONDS} s each")
        with Server({"m": path}, "--max_pending_requests=64", batching=batching(64, queue=4)) as server:
            for clients in (1, 2, 4, 8, 16, 32):  # each size of a batch runs slowly at first
                closed_loop(server.port, requests, clients, count=20 * clients)
            capacity = closed_loop(server.port, requests, CLIENTS, seconds=10).rate
            for share in (0.5, 0.8, 1.5):
                rate = share * capacity
                outcome = open_loop(server.port, requests, rate, SECONDS, clients=512)
                report(f"{share:.1f} of the capacity, {rate:.0f}/s", outcome)


def swap(seconds=60):
    """A new version every few seconds under 64 clients."""
    print(f"\nHot swap: y = version * x under {CLIENTS} clients for {seconds} s")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_scaling(root, 1)
        with Server({"m": root}) as server:
            stop, swaps = threading.Event(), [1]

            def swapping():
                while not stop.wait(4):
                    write_scaling(root, swaps[-1] + 1)
                    swaps.append(swaps[-1] + 1)
                    if len(swaps) > 3:
                        shutil.rmtree(root / str(swaps[-4]), ignore_errors=True)

            def is_right(body):
                values = json.loads(body)["predictions"]
                version = values[0]
                return version in swaps + [swaps[-1] + 1] and values == [version, 2 * version]

            thread = threading.Thread(target=swapping)
            thread.start()
            requests = [(http_request("/v1/models/m:predict", b'{"instances": [1.0, 2.0]}'), is_right)]
            outcome = closed_loop(server.port, requests, CLIENTS, seconds=seconds)
            stop.set()
            thread.join()
        report(f"{len(swaps) - 1} swaps", outcome)


def memory():
    """Resident memory over 100,000 requests and over 20 swaps of a model of 64 MB."""
    print("\nMemory of the server (MiB)")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_scaling(root, 1, megabytes=64)
        with Server({"m": root}) as server:
            request = http_request("/v1/models/m:predict", b'{"instances": [1.0]}')
            requests = [(request, expect({"predictions": [1.0]}))]
            closed_loop(server.port, requests, 16, count=10_000)
            before = server.resident_mib()
            outcome = closed_loop(server.port, requests, 16, count=100_000)
            report(f"100,000 requests: {before:.0f} to {server.resident_mib():.0f}", outcome)
            sizes = []
            for version in range(2, 26):
                write_scaling(root, version, megabytes=64)
                wanted = expect({"predictions": [float(version)]})
                while closed_loop(server.port, [(request, wanted)], 1, count=1).wrong:
                    time.sleep(0.2)
                time.sleep(1.5)
                shutil.rmtree(root / str(version - 1))
                sizes.append(server.resident_mib())
            settled = sizes[4:]
            spread = (max(settled) - min(settled)) / statistics.median(settled)
            print(f"  20 swaps of 64 MB: {settled[0]:.0f} to {settled[-1]:.0f}, spread {100 * spread:.1f} %")


def main():
    """Runs the parts that are named, or all of them."""
    parts = {"overhead": overhead, "throughput": throughput, "overload": overload, "swap": swap, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help="all of them when none is named")
    parser.add_argument("--model", default="", help="a folder of versions, as seqattn export writes it")
    arguments, _ = parser.parse_known_args()
    for name in arguments.parts or parts:
        if name in ("throughput", "overload"):
            parts[name](arguments.model)
        else:
            parts[name]()


if __name__ == "__main__":
    main()
