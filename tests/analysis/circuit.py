"""A toy decoder with a planted circuit: which head moves the answer, from where to where, and which neuron doubles it.

    position   0  1  2  SOURCE  4 ... LAST
    layer 0    nothing
    layer 1    head 2 looks from LAST to SOURCE and copies whether "A" or "B" stands there into dimension INFO
    layer 2    neuron 7 reads INFO at LAST and writes it into dimension EXTRA
    unembedding reads INFO and EXTRA: logit(SAYS_A) - logit(SAYS_B)

All other weights are small random numbers.
"""

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from analysis.contrast import Contrast, Region, Run, logit_difference

A, B, QUESTION, SAYS_A, SAYS_B = 0, 1, 2, 3, 4
SOURCE, LAST, N = 3, 8, 9
HEAD = (1, 2)
NEURON = (2, 7)
LETTER, IS_SOURCE, IS_LAST, INFO, EXTRA = range(5)
"""Dimensions of the residual stream with a meaning."""
WIDTH, HEAD_WIDTH, SLOW = 32, 8, 3
"""SLOW: the dimension of a head that position hardly rotates."""


def build_circuit() -> Qwen2ForCausalLM:
    torch.manual_seed(5)
    config = Qwen2Config(
        vocab_size=40, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=64, initializer_range=0.02, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        embed = model.model.embed_tokens.weight
        embed.normal_()
        embed[:, : EXTRA + 1] = 0
        embed[A, LETTER], embed[B, LETTER], embed[[A, B], IS_SOURCE], embed[QUESTION, IS_LAST] = 3, -3, 3, 3
        embed[A, EXTRA + 1 :] = embed[B, EXTRA + 1 :]  # A and B differ in the letter only
        attention, first = model.model.layers[HEAD[0]].self_attn, HEAD[1] * HEAD_WIDTH
        attention.q_proj.weight[first + SLOW, IS_LAST] = 4
        attention.k_proj.weight[first + SLOW, IS_SOURCE] = 4
        attention.v_proj.weight[first, LETTER] = 1
        attention.o_proj.weight[INFO, first] = 1
        mlp = model.model.layers[NEURON[0]].mlp
        mlp.gate_proj.weight[NEURON[1], IS_LAST] = 2
        mlp.up_proj.weight[NEURON[1], INFO] = 1
        mlp.down_proj.weight[EXTRA, NEURON[1]] = 0.15
        model.lm_head.weight[[SAYS_A, SAYS_B]] = 0
        model.lm_head.weight[SAYS_A, [INFO, EXTRA]], model.lm_head.weight[SAYS_B, [INFO, EXTRA]] = 1, -1
    return model


def planted_pair() -> Contrast:
    """The toy with A at the source, and with B there."""
    model, metric = build_circuit(), logit_difference(SAYS_A, SAYS_B, LAST)
    labels = tuple(f"p{place}" for place in range(N))
    runs = []
    for letter in (A, B):
        ids = torch.tensor([[10, 11, 12, letter, 13, 14, 15, 16, QUESTION]])
        regions = tuple(Region(label, (place,)) for place, label in enumerate(labels))
        runs.append(Run(model, {"input_ids": ids}, metric, labels, regions))
    return Contrast(*runs, ("A", "B"))
