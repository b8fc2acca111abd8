"""Self-attention forward and backward, 8 heads of 64, float32: blocks against PyTorch's kernel and all pairs at once.

Each contender has a process of its own, so that its memory can be told; they take turns, one at a time.
`python -m benchmarks.attention 4096 causal` runs one length and one kind.
"""

import resource
import statistics
import subprocess
import sys
import time

from benchmarks.timing import table

HEADS, WIDTH = 8, 64
LENGTHS = {1024: 9, 4096: 5, 16384: 2}  # steps, turns
OURS, PYTORCH, KERAS, PLAIN = (
    "keras_seqattn, blocks",
    "PyTorch's kernel",
    "keras MultiHeadAttention's",
    "keras_seqattn, plain",
)
CONTENDERS = (OURS, PYTORCH, KERAS, PLAIN)
PAIRS_UP_TO = 4096  # steps, beyond which all pairs need tens of gigabytes


def tensorflow_way(name, steps, causal):
    """A function that runs forward and backward."""
    import keras
    import tensorflow as tf

    from keras_seqattn.ops import attention

    def keras_attention(query, key, value):
        return keras.ops.dot_product_attention(query, key, value, is_causal=causal)

    def ours(query, key, value):
        implementation = "plain" if name == PLAIN else "blockwise"
        return attention(query, key, value, causal=causal, implementation=implementation)

    heads = [tf.random.stateless_normal((1, steps, HEADS, WIDTH), (0, index)) for index in range(4)]

    @tf.function(autograph=False)
    def run(query, key, value, upstream):
        with tf.GradientTape() as tape:
            tape.watch([query, key, value])
            context = (keras_attention if name == KERAS else ours)(query, key, value)
        return tape.gradient(context, [query, key, value], upstream)

    return lambda: [gradient.numpy() for gradient in run(*heads)]


def torch_way(steps, causal):
    """The same by PyTorch."""
    import torch

    heads = [torch.randn(1, HEADS, steps, WIDTH) for _ in range(4)]
    leaves, upstream = [x.requires_grad_(True) for x in heads[:3]], heads[3]

    def run():
        for leaf in leaves:
            leaf.grad = None
        torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal).backward(upstream)

    return run


def work(name, steps, causal):
    """In a process of its own: runs once for each line read, and answers with the seconds and the peak of memory."""
    way = torch_way(steps, causal) if name == PYTORCH else tensorflow_way(name, steps, causal)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    way()
    for _ in sys.stdin:
        began = time.perf_counter()
        way()
        seconds = time.perf_counter() - began
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, flush=True)


def compare(steps, turns, causal):
    """Prints one table of times and one of memory."""
    names = [name for name in CONTENDERS if name in (OURS, PYTORCH) or steps <= PAIRS_UP_TO]
    command = [sys.executable, "-m", "benchmarks.attention", "--work"]
    workers = {
        name: subprocess.Popen(
            [*command, name, str(steps), *["causal"] * causal],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name in names
    }
    answers = {name: [] for name in names}
    for turn in range(turns + 1):  # the first waits for all to have started
        for name, worker in workers.items():
            worker.stdin.write("run\n")
            worker.stdin.flush()
            answer = [float(word) for word in worker.stdout.readline().split()]
            if turn:
                answers[name].append(answer)
    for worker in workers.values():
        worker.communicate()
    title = f"Attention forward and backward, B=1 T=S={steps} H={HEADS} K={WIDTH}{', causal' * causal}"
    table(title, {name: statistics.median(seconds for seconds, _ in each) for name, each in answers.items()})
    peaks = {name: max(kibibytes for _, kibibytes in each) for name, each in answers.items()}
    table("  peak of memory above the inputs", peaks, unit=2**-10, suffix="MiB")


def main(*only):
    lengths = [int(word) for word in only if word.isdigit()] or list(LENGTHS)
    for steps in lengths:
        for causal in [True] if "causal" in only else [False, True]:
            compare(steps, LENGTHS.get(steps, 3), causal)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], int(sys.argv[3]), "causal" in sys.argv)
    else:
        main(*sys.argv[1:])
