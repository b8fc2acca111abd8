"""A loop over time with a gradient of its own, for TensorFlow graphs: `scan` as training runs it.

The gradient that TensorFlow makes of a `tf.while_loop` adds up the gradient of every kernel step by step. Here

    forward   runs the steps, and keeps each step's states and the results of its products (`ops.product`)
    backward  runs them in reverse: what a step computes beside its products is computed again, the products are not;
              it keeps, for each product, its operand and the gradient of its result
    kernels   get their gradients by one product each when the loop is over

`ops/recurrence.py` has the plain form that this equals.
"""

from keras import tree

from keras_seqattn.ops.products import factors_of, plain_product, products_by

ONCE = (
    "The gradient of a loop over time can be taken once. Second derivatives need `training=False`, with which "
    "TensorFlow's own gradient is used."
)


def scan_with_gradient(step, states, inputs, length):
    """`scan` in a TensorFlow graph, its gradient included."""
    import tensorflow as tf

    factors = factors_of(step, states, inputs)
    # Both are traced now, while what `step` reads besides its arguments, such as dropout masks, is there.
    forward = Forward(step, states, inputs, factors)
    backward = Backward(step, states, inputs, factors, forward)
    begin, end = len(tree.flatten(states)), len(tree.flatten(states)) + len(tree.flatten(inputs))

    @tf.custom_gradient
    def run(*arguments):
        arrays = [unstacked(x, length) for x in arguments[begin:end]]
        given = tree.pack_sequence_as(factors, arguments[end : end + len(tree.flatten(factors))])
        last, outputs, kept = forward.run(arguments[:begin], arrays, given, length)

        def gradient(*upstream, variables=()):
            found, of_captured = backward.run(arrays, given, kept, upstream[:begin], upstream[begin:], length)
            found += [of_captured[id(tensor)] for tensor in backward.captured_tensors]
            found += [of_captured.get(id(variable.handle)) for variable in variables]
            found = only_once(found, [*arguments, *upstream])
            return (found[: len(arguments)], found[len(arguments) :]) if variables else found

        return [*last, *outputs], gradient

    results = run(*tree.flatten(states), *tree.flatten(inputs), *tree.flatten(factors), *backward.captured_tensors)
    return tree.pack_sequence_as(states, results[:begin]), tree.pack_sequence_as(forward.outputs, results[begin:])


class Forward:
    """A step, traced once, and the loop that runs it."""

    def __init__(self, step, states, inputs, factors):
        import tensorflow as tf

        def traced(flat_states, flat_inputs, factors):
            results = []

            def keep(x, *given):
                results.append(plain_product(x, *factors[len(results)]))
                return results[-1]

            with products_by(keep):
                new_states, outputs = step(
                    tree.pack_sequence_as(states, list(flat_states)), tree.pack_sequence_as(inputs, list(flat_inputs))
                )
            self.outputs = tree.map_structure(spec, outputs)
            self.results = [spec(x) for x in results]
            return tree.flatten(new_states), tree.flatten(outputs), results

        self.states = [spec(x) for x in tree.flatten(states)]
        self.step = tf.function(traced, autograph=False).get_concrete_function(
            self.states, [step_spec(x) for x in tree.flatten(inputs)], tree.map_structure(spec, factors)
        )

    def run(self, states, inputs, factors, length):
        """Last states, outputs (T, ...), and arrays of each step's states and results of products."""

        def body(t, states, outputs, kept_states, kept_results):
            new_states, now, results = self.step(list(states), [x.read(t) for x in inputs], factors)
            collected = ((outputs, now), (kept_states, states), (kept_results, results))
            return new_states, *(written(arrays, t, values) for arrays, values in collected)

        arrays = (empty(specs, length) for specs in (tree.flatten(self.outputs), self.states, self.results))
        last, outputs, *kept = counted(body, (list(states), *arrays), length)
        return last, [x.stack() for x in outputs], kept


class Backward:
    """The gradient of a step, traced once, and the loop that runs it in reverse."""

    def __init__(self, step, states, inputs, factors, forward):
        import tensorflow as tf

        def traced(flat_states, flat_inputs, results, transposed, d_states, d_outputs):
            operands, d_results = [], [None] * len(factors)

            def replay(x, *given):
                index = len(operands)
                operands.append(x)

                @tf.custom_gradient
                def known(x):
                    def gradient(d_result):
                        d_results[index] = d_result
                        return tf.matmul(d_result, transposed[index])

                    return tf.identity(results[index]), gradient

                return known(x)

            with products_by(replay):
                new_states, outputs = step(
                    tree.pack_sequence_as(states, list(flat_states)), tree.pack_sequence_as(inputs, list(flat_inputs))
                )
            captured = [
                (outer, inner)
                for outer, inner in tf.compat.v1.get_default_graph().captures
                if inner.dtype.is_floating or inner.dtype == tf.resource
            ]
            targets = [x for x in tree.flatten([new_states, outputs]) if x.dtype.is_floating]
            old, read = floats(flat_states), floats(flat_inputs)
            found = tf.gradients(targets, [*old, *read, *(inner for _, inner in captured)], [*d_states, *d_outputs])
            found = [None if x is None else tf.convert_to_tensor(x) for x in found]
            of_states, of_inputs = found[: len(old)], found[len(old) : len(old) + len(read)]
            of_captured = found[len(old) + len(read) :]
            self.captured = [outer for (outer, _), x in zip(captured, of_captured, strict=True) if x is not None]
            self.read = [index for index, x in enumerate(of_inputs) if x is not None]
            self.used = [index for index, x in enumerate(d_results) if x is not None]
            return (
                [tf.zeros_like(x) if d is None else d for x, d in zip(old, of_states, strict=True)],
                [x for x in of_captured if x is not None],
                [of_inputs[index] for index in self.read],
                [operands[index] for index in self.used],
                [d_results[index] for index in self.used],
            )

        self.states = forward.states
        self.float_inputs = [index for index, x in enumerate(tree.flatten(inputs)) if x.dtype.is_floating]
        self.num_inputs = len(tree.flatten(inputs))
        self.step = tf.function(traced, autograph=False).get_concrete_function(
            forward.states,
            [step_spec(x) for x in tree.flatten(inputs)],
            forward.results,
            [spec(tf.linalg.matrix_transpose(kernel)) for kernel, *_ in factors],
            floats(forward.states),
            floats(tree.flatten(forward.outputs)),
        )
        self.captured_tensors = [x for x in self.captured if x.dtype != tf.resource]

    def run(self, inputs, factors, kept, d_last, d_outputs, length):
        """Gradients of first states, inputs and factors, None where there is none; and of what was captured, by id."""
        import tensorflow as tf

        states, results = kept
        d_outputs = [unstacked(x, length) for x in floats(d_outputs)]
        # Once, here: a product of a step that transposes its kernel takes three times as long.
        transposed = [tf.linalg.matrix_transpose(kernel) for kernel, *_ in factors]

        def body(i, d_states, sums, *arrays):
            t = length - 1 - i
            d_states, of_captured, *now = self.step(
                *([x.read(t) for x in stored] for stored in (states, inputs, results)),
                transposed,
                list(d_states),
                [x.read(t) for x in d_outputs],
            )
            sums = [a + b for a, b in zip(sums, of_captured, strict=True)]
            return d_states, sums, *(written(array, t, x) for array, x in zip(arrays, now, strict=True))

        _, of_captured, *now = self.step.structured_outputs
        sums = [
            tf.zeros(d.shape, d.dtype) if outer.dtype == tf.resource else tf.zeros_like(outer)
            for outer, d in zip(self.captured, of_captured, strict=True)
        ]
        first = (floats(d_last), sums, *(empty([spec(x) for x in each], length) for each in now))
        d_states, sums, *arrays = counted(body, first, length)
        d_inputs, operands, d_results = ([x.stack() for x in each] for each in arrays)
        d_factors = {
            index: factor_gradients(*pair) for index, *pair in zip(self.used, operands, d_results, strict=True)
        }
        found = [
            *placed(d_states, [i for i, s in enumerate(self.states) if s.dtype.is_floating], len(self.states)),
            *placed(d_inputs, [self.float_inputs[index] for index in self.read], self.num_inputs),
            *(d for i, given in enumerate(factors) for d in d_factors.get(i, [None, None])[: len(given)]),
        ]
        return found, {id(outer): d for outer, d in zip(self.captured, sums, strict=True)}


def factor_gradients(operands, d_results):
    """Of kernel and bias, by all operands (T, B, D) and the gradients of all results (T, B, U); or (T, B, M, D), ...

    d_kernel = sum over t of operands_t^T @ d_results_t
    d_bias   = sum over t and rows of d_results_t
    """
    import tensorflow as tf

    d_bias = tf.reduce_sum(d_results, axis=list(range(len(d_results.shape) - 1)))
    if len(operands.shape) == 4:  # a kernel for each row
        return tf.einsum("tbmd,tbmu->bdu", operands, d_results), d_bias
    operands, d_results = (tf.reshape(x, (-1, x.shape[-1])) for x in (operands, d_results))
    return tf.matmul(operands, d_results, transpose_a=True), d_bias


def only_once(gradients, sources):
    """The gradients, some of them None; whoever asks for theirs with respect to the sources is told."""
    import tensorflow as tf

    there = [index for index, x in enumerate(gradients) if x is not None]

    @tf.custom_gradient
    def run(*_):
        def refuse(*_):
            raise NotImplementedError(ONCE)

        return [tf.identity(gradients[index]) for index in there], refuse

    return placed(run(*sources), there, len(gradients))


def placed(values, indices, length):
    """A list of `length` with the values at their indices, None elsewhere."""
    found = dict(zip(indices, values, strict=True))
    return [found.get(index) for index in range(length)]


def floats(tensors):
    """The tensors, or specs, that have a gradient."""
    return [x for x in tensors if x.dtype.is_floating]


def spec(x):
    """The spec of a tensor."""
    import tensorflow as tf

    return tf.TensorSpec(x.shape, x.dtype)


def step_spec(x):
    """The spec of one step of a tensor (T, ...)."""
    import tensorflow as tf

    return tf.TensorSpec(x.shape[1:], x.dtype)


def empty(specs, length):
    """A TensorArray for each spec."""
    import tensorflow as tf

    return [tf.TensorArray(s.dtype, size=length, element_shape=s.shape, clear_after_read=False) for s in specs]


def unstacked(x, length):
    """A TensorArray of the steps of `x` (T, ...)."""
    return empty([step_spec(x)], length)[0].unstack(x)


def written(arrays, t, values):
    """The arrays with a value written to each."""
    return [array.write(t, x) for array, x in zip(arrays, values, strict=True)]


def counted(body, first, length):
    """Runs `body(t, *variables)` for t = 0 .. length - 1, beginning with the variables `first`."""
    import tensorflow as tf

    _, *variables = tf.while_loop(
        lambda t, *_: t < length,
        lambda t, *variables: (t + 1, *body(t, *variables)),
        (tf.constant(0), *first),
        maximum_iterations=length,
    )
    return variables
