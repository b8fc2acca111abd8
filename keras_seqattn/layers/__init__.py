"""Building blocks with weights."""

from keras_seqattn.layers.attention.attention_cell import AttentionCell
from keras_seqattn.layers.attention.bahdanau_attention import BahdanauAttention
from keras_seqattn.layers.attention.luong_attention import LuongAttention
from keras_seqattn.layers.recurrent.bidirectional import Bidirectional
from keras_seqattn.layers.recurrent.elman_cell import ElmanCell
from keras_seqattn.layers.recurrent.gru_cell import GRUCell
from keras_seqattn.layers.recurrent.lstm_cell import LSTMCell
from keras_seqattn.layers.recurrent.recurrent import Recurrent
from keras_seqattn.layers.recurrent.stacked_cells import StackedCells

__all__ = [
    "AttentionCell",
    "BahdanauAttention",
    "Bidirectional",
    "ElmanCell",
    "GRUCell",
    "LSTMCell",
    "LuongAttention",
    "Recurrent",
    "StackedCells",
]
