"""Loops over blocks that gradients do not run through: what each backend needs of its own for them."""

import keras
from keras import ops, tree


def loop(begin, end, body, state):
    """state = body(i, *state) for i = begin .. end - 1; state is a list of tensors and of `zero_blocks`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # One block at a time: with several, so many more would be in memory.
        return tf.while_loop(
            lambda i, *_: i < end,
            lambda i, *state: (i + 1, *body(i, *state)),
            (tf.convert_to_tensor(begin), *state),
            parallel_iterations=1,
        )[1:]
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.fori_loop(begin, end, lambda i, state: list(body(i, *state)), list(state))
    for i in range(int(begin), int(end)):
        state = body(i, *state)
    return state


def zero_blocks(count, shape, dtype):
    """`count` blocks of zeros, that `with_block` and `add_to_block` write to in place."""
    zeros = ops.zeros((count, *shape), dtype=dtype)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Within a loop, one tensor of all blocks would be copied with every block that is written.
        return tf.TensorArray(zeros.dtype, size=count, element_shape=zeros.shape[1:], clear_after_read=False).unstack(
            zeros
        )
    return zeros


def with_block(blocks, index, x):
    """The blocks, with `x` in place `index`."""
    if keras.backend.backend() == "tensorflow":
        return blocks.write(index, x)
    if keras.backend.backend() == "jax":
        return blocks.at[index].set(x)
    blocks[index] = x
    return blocks


def add_to_block(blocks, index, x):
    """The blocks, with `x` added to the one in place `index`."""
    if keras.backend.backend() == "tensorflow":
        return blocks.write(index, blocks.read(index) + x)
    if keras.backend.backend() == "jax":
        return blocks.at[index].add(x)
    blocks[index] += x
    return blocks


def all_blocks(blocks):
    """The blocks as one tensor (count, ...)."""
    return blocks.stack() if keras.backend.backend() == "tensorflow" else blocks


def add_to_rows(x, begin, rows):
    """The tensor (R, ...), with `rows` added to those from `begin` on."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.tensor_scatter_nd_add(x, (begin + tf.range(tf.shape(rows)[0]))[:, None], rows)
    if keras.backend.backend() == "jax":
        import jax

        there = jax.lax.dynamic_slice_in_dim(x, begin, rows.shape[0])
        return jax.lax.dynamic_update_slice_in_dim(x, there + rows, begin, 0)
    x[begin : begin + rows.shape[0]] += rows
    return x


def drawn(seed, index, shape, rate):
    """Whether each entry of block `index` stays, when a share of `rate` is dropped: the same each time it is asked.

    Args:
        seed: (2,) int32 tensor.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.random.stateless_uniform(shape, tf.random.experimental.stateless_fold_in(seed, index)) >= rate
    if keras.backend.backend() == "jax":
        import jax

        key = jax.random.fold_in(jax.random.wrap_key_data(seed.astype("uint32"), impl="threefry2x32"), index)
        return jax.random.uniform(key, shape) >= rate
    import torch

    first, second = seed.tolist()
    generator = torch.Generator(device=seed.device).manual_seed(hash((first, second, index)) % 2**63)
    return torch.rand(shape, generator=generator, device=seed.device) >= rate


ONCE = 'Blockwise attention has no second derivative. `implementation="plain"` has.'


def with_gradient(forward, backward, floats, others):
    """The output of `forward`, with the gradient that `backward` computes.

    Args:
        forward: (floats, others) -> output, what to keep for the gradient.
        backward: (floats, others, kept, gradient of the output) -> structure of gradients like `floats`.
        floats: structure of float tensors. others: structure of tensors that have no gradient.
    """
    backend = keras.backend.backend()
    way = {"tensorflow": _with_gradient_tensorflow, "jax": _with_gradient_jax, "torch": _with_gradient_torch}[backend]
    return way(forward, backward, floats, others)


def _with_gradient_tensorflow(forward, backward, floats, others):
    import tensorflow as tf

    @tf.custom_gradient
    def run(*arguments):
        # Else an eager tape would record the loops, and keep every block.
        inside = tree.pack_sequence_as(floats, [tf.stop_gradient(x) for x in arguments])
        output, kept = forward(inside, others)

        def gradient(upstream):
            found = tree.flatten(backward(inside, others, kept, tf.stop_gradient(upstream)))

            @tf.custom_gradient
            def once(*_):
                def refuse(*_):
                    raise NotImplementedError(ONCE)

                return [tf.identity(x) for x in found], refuse

            return once(*arguments, upstream)

        return output, gradient

    return run(*tree.flatten(floats))


def _with_gradient_jax(forward, backward, floats, others):
    import jax

    @jax.custom_vjp
    def run(floats, others):
        return forward(floats, others)[0]

    def run_and_keep(floats, others):
        output, kept = forward(floats, others)
        return output, (floats, others, kept)

    def gradient(kept, upstream):
        return backward(*kept, upstream), None

    run.defvjp(run_and_keep, gradient)
    return run(floats, others)


def _with_gradient_torch(forward, backward, floats, others):
    import torch

    class Run(torch.autograd.Function):
        @staticmethod
        def forward(context, *arguments):
            output, kept = forward(tree.pack_sequence_as(floats, list(arguments)), others)
            context.save_for_backward(*arguments, *kept)
            return output

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context, upstream):
            count = len(tree.flatten(floats))
            arguments, kept = context.saved_tensors[:count], context.saved_tensors[count:]
            return tuple(tree.flatten(backward(tree.pack_sequence_as(floats, list(arguments)), others, kept, upstream)))

    return Run.apply(*tree.flatten(floats))
