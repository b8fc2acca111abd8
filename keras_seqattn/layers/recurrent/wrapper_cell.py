"""A cell around another cell: what it does not change, the other one does."""

from keras_seqattn.layers.nesting import revive, serialize
from keras_seqattn.layers.recurrent.cell import RecurrentCell, check_cell, check_step, output_size, stages, zero_state


class WrapperCell(RecurrentCell):
    """Base of the cells that change what goes into or comes out of any other: ours, Keras's, stacked, attending.

    A subclass overrides the stages that it changes, and reaches those of the cell within by `inner`. Where the cell
    within takes its inputs whole, `project` leaves them alone, and `projected_within` projects them in the step.
    """

    def __init__(self, cell, **kwargs):
        super().__init__(**kwargs)
        check_cell(cell, type(self).__name__)
        self.cell = cell
        self.attends = self.inner.attends
        self.splits_inputs = self.inner.splits_inputs

    @property
    def inner(self):
        """The three stages of the cell within."""
        return stages(self.cell)

    @property
    def state_size(self):
        return self.cell.state_size

    @property
    def output_size(self):
        return output_size(self.cell)

    @property
    def loop_output_size(self):
        return self.inner.loop_output_size

    def build(self, inputs_shape, memory_shape=None):
        if not self.cell.built:
            if self.attends:
                self.cell.build(inputs_shape, memory_shape)
            else:
                self.cell.build(inputs_shape)
            self.cell.built = True

    def get_initial_state(self, batch_size=None, memory=None):
        return zero_state(self.cell, batch_size, memory)

    def begin(self, rows, width, length, memory=None, training=False):
        return self.inner.begin(rows, width, length, memory, training)

    def end(self):
        self.inner.end()

    def prepare_memory(self, memory, memory_mask=None):
        return self.inner.prepare_memory(memory, memory_mask)

    def project(self, inputs, start=0):
        return self.inner.project(inputs, start) if self.splits_inputs else inputs

    def projected_within(self, projected):
        """What `project` gave, as the cell within takes it."""
        return projected if self.splits_inputs else self.inner.project(projected)

    def step(self, projected, states, memory=None, training=False, noise=()):
        return self.inner.step(self.projected_within(projected), states, memory, training, noise)

    def hidden(self, states):
        return self.inner.hidden(states)

    def readout(self, outputs, memory=None, training=False):
        return self.inner.readout(outputs, memory, training)

    def call(self, inputs, states, memory=None, memory_mask=None, training=False):
        check_step(self, inputs, states)
        memory = None if memory is None else self.prepare_memory(memory, memory_mask)
        output, states, _ = self.one_step(inputs, states, memory, training)
        return output, states

    def get_config(self):
        return {**super().get_config(), "cell": serialize(self.cell)}

    @classmethod
    def from_config(cls, config):
        return cls(**revive(config, "cell"))
