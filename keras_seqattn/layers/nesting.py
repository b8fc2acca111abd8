"""Layers that hold other layers: how the inner ones are saved and come back."""

import keras


def serialize(layer):
    """The config of one layer, of a list of layers, or None."""
    if isinstance(layer, list | tuple):
        return [serialize(one) for one in layer]
    return keras.saving.serialize_keras_object(layer)


def serialize_shared(layer):
    """The config of a layer that the model may also use elsewhere, and that is one layer again when it is loaded.

    While a model is saved, Keras marks what it meets a second time; the mark that it then sets at the first place is
    lost when that place is inside another layer's config. Met twice here, this place has its own mark.
    """
    keras.saving.serialize_keras_object(layer)
    return keras.saving.serialize_keras_object(layer)


def revive(config, *names):
    """A copy of `config` in which the layers under `names` are layers again."""

    def back(value):
        if isinstance(value, list | tuple):
            return [back(one) for one in value]
        return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value

    return {**config, **{name: back(config[name]) for name in names if name in config}}
