"""Rules that every layer should keep, checked by one call: for our tests, and for layers of your own."""

import inspect
import json
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops, tree

HALF_PRECISION = {"mixed_float16": 0.02, "mixed_bfloat16": 0.1}


def check_layer(
    make_layer, inputs, *, dynamic="steps", skip=(), rtol=1e-4, atol=1e-5, half_precision=None, gradients=True
):
    """Checks that a layer saves, trains, compiles, masks and computes in half precision as a layer of Keras should.

    The rules, by the names that `skip` takes:

        config           its config is JSON, holds every constructor argument, and makes the same layer again
        weights_file     a new layer that loads its weights gives the same outputs
        keras_file       a saved model that is loaded gives the same outputs, and trains on alike
        symbolic         shapes and dtypes known beforehand are those of the outputs, whichever axes are left open
        train_step       a compiled step (by XLA on TensorFlow and JAX) moves every trainable weight, and stays finite
        mixed_precision  half precision reaches every layer within; outputs stay close to those in float32
        rows             each row of a batch is computed on its own
        carried_masks    a mask that an input carries means what the same mask means as an argument
        export           on TensorFlow, a SavedModel gives the same outputs

    Args:
        make_layer: function of no arguments that gives a new layer, such as `lambda: MyLayer(units=13)`.
        inputs: dict from call arguments to arrays, or to shapes (tuples) that are filled with normal numbers, or to
            lists of these. Axis 0 is the batch, of at least two rows. Anything else is passed on as it is.
        dynamic: "steps" leaves the batch open, and every axis between it and the last of a float array (all axes of
            ints and of masks); "batch" leaves the batch open alone; None nothing.
        skip: names of rules that this layer need not keep.
        rtol, atol: float, how close outputs must be to count as the same.
        half_precision: dict from "mixed_float16" and "mixed_bfloat16" to the largest difference from float32, as a
            share of the largest output; None takes 0.02 and 0.1.
        gradients: bool, whether every trainable weight must have a gradient other than zero.
    Raises: AssertionError that names the rule and what was found; ValueError when `skip` names no rule, or the batch
        has one row.
    Example:
        >>> from keras_seqattn.layers import BahdanauAttention
        >>> check_layer(
        ...     lambda: BahdanauAttention(units=13),
        ...     {"query": (2, 3, 7), "value": (2, 5, 11)},
        ...     skip=["export", "train_step"],
        ... )
    """
    unknown = set(skip) - RULES.keys()
    if unknown:
        raise ValueError(f"`skip` takes names of rules: {', '.join(RULES)}. Received: {sorted(unknown)}.")
    subject = _Subject(make_layer, inputs, dynamic, rtol, atol, half_precision or HALF_PRECISION, gradients)
    for name, rule in RULES.items():
        if name not in skip:
            try:
                rule(subject)
            except Exception as error:
                meaning = inspect.getdoc(rule)
                raise AssertionError(f"{subject.layer!r} breaks the rule '{name}': {meaning}\n{error}") from error


class _Subject:
    """A layer, the arrays that it is called with, and what it gives for them."""

    def __init__(self, make_layer, inputs, dynamic, rtol, atol, half_precision, gradients):
        rng = np.random.default_rng(0)
        given = {name: _arrays(value, rng) for name, value in inputs.items()}
        self.constants = {name: value for name, value in given.items() if not _has_arrays(value)}
        self.arrays = {name: value for name, value in given.items() if _has_arrays(value)}
        batch = {len(x) for x in tree.flatten(self.arrays)}
        if len(batch) != 1 or batch == {1}:
            raise ValueError(f"Every input needs one batch size of at least 2. Received: batch sizes {sorted(batch)}.")
        self.make_layer, self.dynamic, self.rtol, self.atol = make_layer, dynamic, rtol, atol
        self.half_precision, self.gradients = half_precision, gradients
        self.layer = make_layer()
        self.run(self.layer)
        if hasattr(self.layer, "reset_state"):
            self.layer.reset_state()
        for weight in self.layer.trainable_weights:  # zeros that a layer starts with would hide what is not saved
            weight.assign(ops.convert_to_numpy(weight) + 0.1 * rng.normal(size=weight.shape))
        self.outputs = self.run(self.layer)

    def run(self, layer, arrays=None):
        """Outputs of `layer` as a flat list of tensors; what the call changes in the layer is put back."""
        before = layer.get_weights() if layer.built else None
        outputs = layer(**(self.arrays if arrays is None else arrays), **self.constants)
        if before is not None:
            layer.set_weights(before)
        return tree.flatten(outputs)

    def run_model(self, model, arrays=None):
        """The same of a model that `model` has made."""
        before = model.get_weights()
        outputs = model(tree.flatten(self.arrays if arrays is None else arrays))
        model.set_weights(before)
        return tree.flatten(outputs)

    def twin(self, config=None):
        """A new layer with the same weights."""
        layer = self.make_layer() if config is None else type(self.layer).from_config(config)
        self.run(layer)
        layer.set_weights(self.layer.get_weights())
        return layer

    def model(self, layer, dynamic, model_class=keras.Model):
        """A functional model of the layer, from the flat list of its inputs to the flat list of its outputs."""
        symbolic = tree.map_structure(lambda x: _input(x, dynamic), self.arrays)
        outputs = layer(**symbolic, **self.constants)
        return model_class(tree.flatten(symbolic), tree.flatten(outputs), name="model")

    def same(self, actual, what, expected=None, rtol=None, atol=None):
        """Raises unless two flat lists of outputs have the same values."""
        expected = self.outputs if expected is None else expected
        if len(actual) != len(expected):
            raise AssertionError(f"{what}: {len(actual)} outputs rather than {len(expected)}.")
        for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
            np.testing.assert_allclose(
                _numpy(a),
                _numpy(b),
                rtol=self.rtol if rtol is None else rtol,
                atol=self.atol if atol is None else atol,
                err_msg=f"{what}: output {index}",
            )


class _Trained(keras.Model):
    """A model whose loss draws all float outputs towards one."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        outputs = [ops.cast(output, "float32") for output in tree.flatten(y_pred) if _is_float(output)]
        return sum(ops.mean(ops.square(output - 1.0)) for output in outputs)


def _config(subject):
    """The config is JSON, holds every constructor argument, and makes the same layer again."""
    config = subject.layer.get_config()
    text = json.dumps(config, sort_keys=True)
    taken = inspect.signature(type(subject.layer).__init__).parameters.values()
    named = [p.name for p in taken if p.name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    missing = [name for name in named if name not in config]
    if missing:
        raise AssertionError(f"`get_config` leaves out {missing}.")
    again = subject.twin(json.loads(text))
    if json.dumps(again.get_config(), sort_keys=True) != text:
        raise AssertionError(f"The config came back as {again.get_config()}, and was {config}.")
    subject.same(subject.run(again), "made again from its config")


def _weights_file(subject):
    """A new layer that loads the weights gives the same outputs."""
    model = subject.model(subject.twin(), subject.dynamic)
    fresh = subject.model(subject.make_layer(), subject.dynamic)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "layer.weights.h5")
        model.save_weights(path)
        fresh.load_weights(path)
    subject.same(subject.run_model(fresh), "with weights from a file")


def _keras_file(subject):
    """A saved model that is loaded gives the same outputs, and the same weights one training step later."""
    model = subject.model(subject.twin(), subject.dynamic)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
    subject.same(subject.run_model(loaded), "loaded from a file")
    if not model.trainable_weights:
        return
    weights = []
    for one in (model, loaded):
        trained = _Trained(one.inputs, one.outputs, name="model")
        trained.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
        keras.utils.set_random_seed(0)
        trained.train_on_batch(tree.flatten(subject.arrays))
        weights.append([ops.convert_to_numpy(weight) for weight in one.trainable_weights])
    subject.same(weights[1], "loaded, then trained for a step; weights are meant", weights[0])


def _symbolic(subject):
    """The shapes and dtypes known beforehand are those of the outputs, whichever axes are left open."""
    for dynamic in dict.fromkeys([None, "batch", subject.dynamic] if subject.dynamic else [None]):
        model = subject.model(subject.twin(), dynamic)
        for index, (known, output) in enumerate(zip(model.outputs, subject.outputs, strict=True)):
            shape, dtype = tuple(output.shape), keras.backend.standardize_dtype(output.dtype)
            fits = len(known.shape) == len(shape) and all(
                a == b or (a is None and dynamic) for a, b in zip(known.shape, shape, strict=True)
            )
            if not fits or known.dtype != dtype:
                raise AssertionError(
                    f"Output {index} is {shape} {dtype}, and was foretold as {tuple(known.shape)} {known.dtype} "
                    f"(open axes: {dynamic})."
                )
        subject.same(subject.run_model(model), f"as a model (open axes: {dynamic})")
        if dynamic:
            twice = tree.map_structure(lambda x: np.concatenate([x, x]), subject.arrays)
            expected = [np.concatenate([_numpy(x)] * 2) for x in subject.outputs]
            subject.same(
                subject.run_model(model, twice), f"as a model, of twice the batch (open axes: {dynamic})", expected
            )


def _train_step(subject):
    """A compiled step (by XLA on TensorFlow and JAX) moves every trainable weight, and by finite numbers."""
    model = subject.model(subject.twin(), None, _Trained)
    model.compile(optimizer=keras.optimizers.SGD(1.0), jit_compile=keras.backend.backend() in ("tensorflow", "jax"))
    flat = tree.flatten(subject.arrays)
    subject.same(tree.flatten(model.predict_on_batch(flat)), "compiled")
    if not model.trainable_weights:
        return
    before = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    loss = model.train_on_batch(flat)
    if not np.isfinite(loss):
        raise AssertionError(f"The loss is {loss}.")
    moved = {w.path: ops.convert_to_numpy(w) - old for w, old in zip(model.trainable_weights, before, strict=True)}
    wild = [path for path, step in moved.items() if not np.isfinite(step).all()]
    still = [path for path, step in moved.items() if not step.any()]
    if wild or (still and subject.gradients):
        raise AssertionError(f"Gradients that are not finite: {wild}; weights without a gradient: {still}.")


def _mixed_precision(subject):
    """Half precision reaches every layer within; outputs stay close to those in float32."""
    for policy, tolerance in subject.half_precision.items():
        layer = subject.twin(_with_policy(subject.layer.get_config(), policy))
        other = {
            inner.path: inner.dtype_policy.name
            for inner in layer._flatten_layers()  # Keras has no public way to all layers within
            if inner.dtype_policy.name != policy
        }
        if other:
            raise AssertionError(f"Asked for {policy}, these layers have another policy: {other}.")
        outputs = subject.run(layer)
        dtypes = [keras.backend.standardize_dtype(output.dtype) for output in outputs]
        foretold = [known.dtype for known in subject.model(layer, None).outputs]
        # On PyTorch, Keras itself foretells by weights in float32 wherever a layer does not say better.
        if foretold != dtypes and keras.backend.backend() != "torch":
            raise AssertionError(f"Under {policy} the outputs are {dtypes}, and were foretold as {foretold}.")
        floats = [(output, full) for output, full in zip(outputs, subject.outputs, strict=True) if _is_float(output)]
        if any(keras.backend.standardize_dtype(output.dtype) != layer.compute_dtype for output, _ in floats):
            raise AssertionError(f"Under {policy} the outputs are {dtypes}, not {layer.compute_dtype}.")
        for output, full in floats:
            full = _numpy(full)
            subject.same([output], f"under {policy}", [full], rtol=0, atol=tolerance * max(np.abs(full).max(), 1e-3))


def _rows(subject):
    """Each row of a batch is computed on its own."""
    moved = tree.map_structure(lambda x: np.roll(x, 1, axis=0), subject.arrays)
    expected = [np.roll(_numpy(output), 1, axis=0) for output in subject.outputs]
    subject.same(subject.run(subject.layer, moved), "with the rows in another order", expected)
    rng = np.random.default_rng(1)

    def change(x):
        x = x.copy()
        x[0] = rng.normal(size=x[0].shape) if x.dtype.kind == "f" else x[1]
        return x

    outputs = subject.run(subject.layer, tree.map_structure(change, subject.arrays))
    rest = [[_numpy(output)[1:] for output in some] for some in (outputs, subject.outputs)]
    subject.same(rest[0], "rows after the first, when the first changes,", rest[1])


def _carried_masks(subject):
    """A mask that an input carries means what the same mask means as an argument."""
    arrays, first = dict(subject.arrays), next(iter(subject.arrays))
    carried = {}
    for name, mask in subject.arrays.items():
        of = first if name == "mask" else name.removesuffix("_mask")
        x = arrays.get(of)
        if name != of and isinstance(x, np.ndarray) and x.dtype.kind == "f" and mask.shape == x.shape[:2] != x.shape:
            arrays[of] = np.where(mask[:, :, None], x, 0).astype(x.dtype)
            carried[of] = arrays.pop(name)
    if not carried:
        return
    symbolic = tree.map_structure(lambda x: _input(x, None), arrays)
    given = {name: keras.layers.Masking()(x) if name in carried else x for name, x in symbolic.items()}
    outputs = subject.layer(**given, **subject.constants)
    model = keras.Model(tree.flatten(symbolic), tree.flatten(outputs), name="model")
    zeroed = {**subject.arrays, **arrays}
    expected = subject.run(subject.layer, zeroed)
    subject.same(subject.run_model(model, arrays), f"with masks on {sorted(carried)}", expected)


def _export(subject):
    """On TensorFlow, a SavedModel gives the same outputs."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    model = subject.model(subject.twin(), subject.dynamic)
    with tempfile.TemporaryDirectory() as folder:
        signature = {}
        if subject.dynamic is None:  # the layer has a batch size of its own, where Keras leaves it open
            signature["input_signature"] = [[tf.TensorSpec(x.shape, x.dtype) for x in tree.flatten(subject.arrays)]]
        model.export(folder, format="tf_saved_model", verbose=False, **signature)
        served = tf.saved_model.load(folder)
        subject.same(tree.flatten(served.serve(tree.flatten(subject.arrays))), "exported and served")


RULES = {
    "config": _config,
    "weights_file": _weights_file,
    "keras_file": _keras_file,
    "symbolic": _symbolic,
    "train_step": _train_step,
    "mixed_precision": _mixed_precision,
    "rows": _rows,
    "carried_masks": _carried_masks,
    "export": _export,
}


def _arrays(value, rng):
    """Shapes as arrays of normal numbers, arrays as they are (floats in float32), in lists too; the rest untouched."""
    if isinstance(value, tuple) and value and all(isinstance(size, int) for size in value):
        return rng.normal(size=value).astype("float32")
    if isinstance(value, list | tuple):
        return [_arrays(one, rng) for one in value]
    if hasattr(value, "shape"):
        array = _numpy(value)
        return array.astype("float32") if array.dtype.kind == "f" else array
    return value


def _has_arrays(value):
    return any(isinstance(x, np.ndarray) for x in tree.flatten(value))


def _input(x, dynamic):
    """A symbolic input for an array, with the axes open that `dynamic` says."""
    fixed = {None: x.ndim, "batch": x.ndim - 1, "steps": 1 if x.dtype.kind == "f" and x.ndim > 1 else 0}[dynamic]
    return keras.Input(batch_shape=(None,) * (x.ndim - fixed) + x.shape[x.ndim - fixed :], dtype=x.dtype.name)


def _with_policy(config, policy):
    """A config in which every layer has the policy, those within too."""
    if isinstance(config, list | tuple):
        return [_with_policy(one, policy) for one in config]
    if not isinstance(config, dict):
        return config
    return {key: policy if key == "dtype" else _with_policy(value, policy) for key, value in config.items()}


def _is_float(tensor):
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def _numpy(x):
    """A tensor as an array of NumPy; half precision as float32, which bfloat16 has no like of in NumPy."""
    if isinstance(x, np.ndarray):
        return x
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.convert_to_numpy(ops.cast(x, "float32") if half else x)
