"""Building blocks with weights."""

from keras_seqattn.layers.attention.attention_cache import AttentionCache
from keras_seqattn.layers.attention.attention_cell import AttentionCell
from keras_seqattn.layers.attention.bahdanau_attention import BahdanauAttention
from keras_seqattn.layers.attention.local_attention import LocalAttention
from keras_seqattn.layers.attention.location_sensitive_attention import LocationSensitiveAttention
from keras_seqattn.layers.attention.luong_attention import LuongAttention
from keras_seqattn.layers.attention.monotonic_attention import MonotonicAttention
from keras_seqattn.layers.attention.multi_head_attention import MultiHeadAttention
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
from keras_seqattn.layers.transformer.feed_forward import FeedForward
from keras_seqattn.layers.transformer.learned_positions import LearnedPositions
from keras_seqattn.layers.transformer.sinusoidal_positions import SinusoidalPositions
from keras_seqattn.layers.transformer.token_embedding import TokenEmbedding
from keras_seqattn.layers.transformer.transformer_decoder import TransformerDecoder
from keras_seqattn.layers.transformer.transformer_encoder import TransformerEncoder

__all__ = [
    "AttentionCache",
    "AttentionCell",
    "BahdanauAttention",
    "Bidirectional",
    "DropoutCell",
    "ElmanCell",
    "FeedForward",
    "GRUCell",
    "JordanCell",
    "LSTMCell",
    "LearnedPositions",
    "LocalAttention",
    "LocationSensitiveAttention",
    "LuongAttention",
    "MonotonicAttention",
    "MultiHeadAttention",
    "Recurrent",
    "ResidualCell",
    "ScheduledSamplingCell",
    "SinusoidalPositions",
    "StackedCells",
    "TokenEmbedding",
    "TransformerDecoder",
    "TransformerEncoder",
]
