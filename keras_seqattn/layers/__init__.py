"""Building blocks with weights."""

from keras_seqattn.layers.attention.attention_cell import AttentionCell
from keras_seqattn.layers.attention.bahdanau_attention import BahdanauAttention
from keras_seqattn.layers.attention.local_attention import LocalAttention
from keras_seqattn.layers.attention.location_sensitive_attention import LocationSensitiveAttention
from keras_seqattn.layers.attention.luong_attention import LuongAttention
from keras_seqattn.layers.attention.monotonic_attention import MonotonicAttention
from keras_seqattn.layers.recurrent.bidirectional import Bidirectional
from keras_seqattn.layers.recurrent.dropout_cell import DropoutCell
from keras_seqattn.layers.recurrent.elman_cell import ElmanCell
from keras_seqattn.layers.recurrent.gru_cell import GRUCell
from keras_seqattn.layers.recurrent.jordan_cell import JordanCell
from keras_seqattn.layers.recurrent.lstm_cell import LSTMCell
from keras_seqattn.layers.recurrent.recurrent import Recurrent
from keras_seqattn.layers.recurrent.residual_cell import ResidualCell
from keras_seqattn.layers.recurrent.scheduled_sampling_cell import ScheduledSamplingCell
from keras_seqattn.layers.recurrent.stacked_cells import StackedCells

__all__ = [
    "AttentionCell",
    "BahdanauAttention",
    "Bidirectional",
    "DropoutCell",
    "ElmanCell",
    "GRUCell",
    "JordanCell",
    "LSTMCell",
    "LocalAttention",
    "LocationSensitiveAttention",
    "LuongAttention",
    "MonotonicAttention",
    "Recurrent",
    "ResidualCell",
    "ScheduledSamplingCell",
    "StackedCells",
]
