"""A block of the transformer's decoder, and of models that only decode."""

import keras

from keras_seqattn.layers.transformer.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable(package="keras_seqattn")
class TransformerDecoder(TransformerBlock):
    """Every step reads those before it and itself, then the memory, and then thinks on its own.

        x = norm(x + dropout(self_attention(x, x)))             of the steps up to its own
        x = norm(x + dropout(cross_attention(x, memory)))       where a memory is given
        y = norm(x + dropout(feed_forward(x)))

    A block that was built without a memory, as GPT's, has no cross-attention.

    Decoding goes step by step with two caches: `cache` (`get_initial_cache`) holds keys and values of the steps so far
    and comes back with those of the new ones; `memory_cache` (`make_memory_cache`) holds those of the memory, the same
    for all beams of a row. With them, the outputs are those of the whole sequence at once.

    Args:
        num_heads: int, heads H of each attention.
        feed_forward_dim: int, width F inside the feed-forward network.
        key_dim: int, width K of a head; None shares the width D among the heads, which `num_heads` must then divide.
        num_kv_heads: int, heads of keys and values; None as many as `num_heads`, which it must divide.
        positions: None, "rotary", "alibi" or "relative", of the self-attention (`MultiHeadAttention`).
        sliding_window: int, steps that the self-attention reads at most; None all.
        implementation: "auto", "plain", "blockwise" or "fused", of both attentions.
        activation: Keras's name of a function, or "gelu_tanh".
        gated: bool, whether the feed-forward network is gated.
        normalize_first: bool, whether a part reads what is already normalized, so that a way from the inputs to the
            outputs stays free. The last block's outputs are then not normalized: a model does that after it.
        normalization: "layer" (with `epsilon`) or "rms".
        epsilon: float, added to the variance.
        dropout: float in [0, 1), on what each part adds.
        attention_dropout, activation_dropout: float in [0, 1), on the attention's scores, and on the hidden layer of
            the feed-forward network.
        use_bias: bool, whether products have biases.
        kernel_initializer, bias_initializer: of all products.
        rematerialize: bool, whether training keeps a block's inputs alone, and computes what is within again for the
            gradient: less memory, about a third more time.
        seed: int, of all dropouts.
    Call arguments:
        inputs: (B, T, D) float.
        memory: (B, S, M) float, or None.
        mask: (B, T) bool, True where a step may be read. Keras passes the mask that the inputs carry as `mask`, and as
            `inputs_mask` where there are other tensors beside them.
        memory_mask: (B, S) bool, True where a step of the memory may be read.
        attention_mask: (B, T, T) bool, True where a query (axis 1) may read a step (axis 2).
        use_causal_mask: bool, whether a step reads no later ones; True unless told otherwise.
        return_attention_scores: bool, whether to return the scores too.
        score_rows: slice or list of int, the queries whose scores to return; None all.
        cache: AttentionCache of the steps before, or None.
        cache_index: int or scalar int32 tensor, the cache's slot for the first of the new steps.
        memory_cache: AttentionCache of the memory, in its place.
        training: bool.
    Returns: (B, T, D) float; with `return_attention_scores` also the scores (B, H, T, T), with a cache of L slots
        (B, H, T, L), and those of the memory (B, H, T, S) if there is one; with `cache` the new cache at the end.
    Raises: ValueError when a number is out of its range, `num_heads` does not divide the width, or a block without
        cross-attention is given a memory.
    References: Vaswani et al. 2017, arXiv 1706.03762; Radford et al. 2018, of blocks without a memory.
    Example:
        >>> from keras import ops
        >>> block = TransformerDecoder(num_heads=2, feed_forward_dim=13)
        >>> output, own, cross = block(ops.ones((2, 3, 8)), ops.ones((2, 5, 7)), return_attention_scores=True)
        >>> tuple(output.shape), tuple(own.shape), tuple(cross.shape)
        ((2, 3, 8), (2, 2, 3, 3), (2, 2, 3, 5))
    """

    def build(self, inputs_shape, memory_shape=None):
        self.build_attention(
            "self_attention",
            inputs_shape,
            inputs_shape,
            positions=self.positions,
            sliding_window=self.sliding_window,
        )
        self.cross_attention = None
        if memory_shape is not None:
            self.build_attention("cross_attention", inputs_shape, memory_shape)
        self.build_feed_forward(inputs_shape)

    def make_memory_cache(self, memory, memory_mask=None):
        """The `AttentionCache` of a memory (B, S, M): its keys and values, computed once a sequence."""
        return self.cross_attention.make_cross_cache(memory, memory_mask)

    def call(
        self,
        inputs,
        memory=None,
        mask=None,
        memory_mask=None,
        attention_mask=None,
        use_causal_mask=True,
        return_attention_scores=False,
        score_rows=None,
        cache=None,
        cache_index=None,
        memory_cache=None,
        inputs_mask=None,
        training=None,
    ):
        self._check_memory(memory, memory_cache)
        wanted = {
            "return_attention_scores": return_attention_scores,
            "score_rows": score_rows,
            "training": training,
        }

        def block(x, memory, mask, memory_mask, attention_mask):
            def read_own(x):
                found = self.self_attention(
                    x,
                    x,
                    value_mask=mask,
                    attention_mask=attention_mask,
                    use_causal_mask=use_causal_mask,
                    cache=cache,
                    cache_index=cache_index,
                    **wanted,
                )
                return found if isinstance(found, tuple) else [found]

            def read_memory(x):
                found = self.cross_attention(x, memory, value_mask=memory_mask, cache=memory_cache, **wanted)
                return found[: 1 + return_attention_scores] if isinstance(found, tuple) else [found]

            x, found = self.around("self_attention", x, read_own, training)
            scores, new_cache = (found[:1], found[1:]) if return_attention_scores else ([], found)
            if self.cross_attention is not None:
                x, cross_scores = self.around("cross_attention", x, read_memory, training)
                scores = [*scores, *cross_scores]
            return [self.around_feed_forward(x, training), *scores, *new_cache]

        mask = inputs_mask if mask is None else mask
        # A cache is for decoding, where nothing is kept for a gradient.
        inputs, is_training = [inputs, memory, mask, memory_mask, attention_mask], training and cache is None
        found = self.computed(block, inputs, is_training)
        return tuple(found) if len(found) > 1 else found[0]

    def _check_memory(self, memory, memory_cache):
        if self.cross_attention is None and (memory is not None or memory_cache is not None):
            raise ValueError(
                "The block was built without a memory, so it has no weights to read one with. Give `memory` in the "
                f"first call, or its shape to `build`. Received a memory in {self.name!r}."
            )
        if self.cross_attention is not None and memory is None and memory_cache is None:
            raise ValueError(
                "The block was built with a memory, and reads it in every call: `memory` or `memory_cache` must be "
                f"given. Received neither in {self.name!r}."
            )

    def compute_mask(self, inputs, memory=None, mask=None, **kwargs):
        return mask
