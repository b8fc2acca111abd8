"""A block of the transformer's encoder."""

import keras

from keras_seqattn.layers.transformer.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable(package="keras_seqattn")
class TransformerEncoder(TransformerBlock):
    """Every step reads every other, and then thinks on its own.

        x = norm(x + dropout(self_attention(x, x)))
        y = norm(x + dropout(feed_forward(x)))

    Args:
        num_heads: int, heads H of the attention.
        feed_forward_dim: int, width F inside the feed-forward network.
        key_dim: int, width K of a head; None shares the width D among the heads, which `num_heads` must then divide.
        num_kv_heads: int, heads of keys and values; None as many as `num_heads`, which it must divide.
        positions: None, "rotary", "alibi" or "relative", of the attention (`MultiHeadAttention`).
        sliding_window: int, steps that a step reads at most; None all.
        implementation: "auto", "plain", "blockwise" or "fused", of the attention.
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
        mask: (B, T) bool, True where a step may be read. Keras passes the mask that the inputs carry as `mask`, and as
            `inputs_mask` where there are other tensors beside them.
        attention_mask: (B, T, T) bool, True where a query (axis 1) may read a step (axis 2).
        use_causal_mask: bool, whether a step reads no later ones.
        return_attention_scores: bool, whether to return the scores too.
        score_rows: slice or list of int, the queries whose scores to return; None all.
        training: bool.
    Returns: (B, T, D) float; with `return_attention_scores` also the scores (B, H, T, T).
    Raises: ValueError when a number is out of its range or `num_heads` does not divide the width.
    References: Vaswani et al. 2017, arXiv 1706.03762; Xiong et al. 2020, arXiv 2002.04745, of pre-norm.
    Example:
        >>> from keras import ops
        >>> block = TransformerEncoder(num_heads=2, feed_forward_dim=13)
        >>> output, scores = block(ops.ones((2, 3, 8)), return_attention_scores=True)
        >>> tuple(output.shape), tuple(scores.shape)
        ((2, 3, 8), (2, 2, 3, 3))
    """

    def build(self, inputs_shape):
        self.build_attention(
            "self_attention",
            inputs_shape,
            inputs_shape,
            positions=self.positions,
            sliding_window=self.sliding_window,
        )
        self.build_feed_forward(inputs_shape)

    def call(
        self,
        inputs,
        mask=None,
        attention_mask=None,
        use_causal_mask=False,
        return_attention_scores=False,
        score_rows=None,
        inputs_mask=None,
        training=None,
    ):
        def block(x, mask, attention_mask):
            def read(x):
                found = self.self_attention(
                    x,
                    x,
                    value_mask=mask,
                    attention_mask=attention_mask,
                    use_causal_mask=use_causal_mask,
                    return_attention_scores=return_attention_scores,
                    score_rows=score_rows,
                    training=training,
                )
                return found if return_attention_scores else [found]

            x, scores = self.around("self_attention", x, read, training)
            return [self.around_feed_forward(x, training), *scores]

        mask = inputs_mask if mask is None else mask
        found = self.computed(block, [inputs, mask, attention_mask], training)
        return tuple(found) if return_attention_scores else found[0]

    def compute_mask(self, inputs, mask=None):
        return mask
