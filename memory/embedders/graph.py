"""The network of all-MiniLM-L6-v2 as an ONNX graph: a BERT encoder, its mean over the tokens, at unit length.

Sizes and activation are those of the model's config.json: 6 layers of 12 heads, 384 wide, GELU by the error function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Weights: TypeAlias = Mapping[str, NDArray[Any]]

WIDTH: Final = 384
_LAYERS: Final = 6
_HEADS: Final = 12
_EPSILON: Final = 1e-12
_OPSET: Final = 20
"""The first with `Gelu`; onnxruntime knows it since 1.17."""
_IR_VERSION: Final = 9


def minilm(weights: Weights) -> ModelProto:
    """Return the graph: `ids` and `mask`, both int64 [texts, tokens], to `vectors`, float32 [texts, 384]."""
    graph = _Graph(weights)
    mask = graph.add("Cast", "mask", to=TensorProto.FLOAT)
    hidden = _embeddings(graph)
    # Nothing for a token to be attended to, minus a billion for padding.
    penalty = graph.add("Mul", graph.add("Sub", mask, graph.number(1)), graph.number(1e9))
    penalty = graph.add("Unsqueeze", penalty, graph.whole(1, 2))
    for layer in range(_LAYERS):
        hidden = _layer(graph, f"encoder.layer.{layer}", hidden, penalty)
    graph.add("LpNormalization", _mean(graph, hidden, mask), out="vectors", axis=-1, p=2)
    return _model(graph)


def _embeddings(graph: _Graph) -> str:
    words = graph.constant("words", graph.weights["embeddings.word_embeddings.weight"])
    # One text at a time, so every token is of type 0.
    of_type = graph.weights["embeddings.token_type_embeddings.weight"][0]
    places = graph.constant("places", graph.weights["embeddings.position_embeddings.weight"] + of_type)
    length = graph.add("Shape", "ids", start=1, end=2)
    placed = graph.add("Slice", places, graph.whole(0), length, graph.whole(0))
    return graph.norm("embeddings.LayerNorm", graph.add("Add", graph.add("Gather", words, "ids"), placed))


def _layer(graph: _Graph, name: str, hidden: str, penalty: str) -> str:
    attended = graph.linear(f"{name}.attention.output.dense", _attention(graph, name, hidden, penalty))
    hidden = graph.norm(f"{name}.attention.output.LayerNorm", graph.add("Add", attended, hidden))
    wide = graph.add("Gelu", graph.linear(f"{name}.intermediate.dense", hidden))
    narrow = graph.linear(f"{name}.output.dense", wide)
    return graph.norm(f"{name}.output.LayerNorm", graph.add("Add", narrow, hidden))


def _attention(graph: _Graph, name: str, hidden: str, penalty: str) -> str:
    def heads(part: str, order: Sequence[int]) -> str:
        flat = graph.linear(f"{name}.attention.self.{part}", hidden)
        split = graph.add("Reshape", flat, graph.whole(0, 0, _HEADS, WIDTH // _HEADS))
        return graph.add("Transpose", split, perm=order)

    scores = graph.add("MatMul", heads("query", (0, 2, 1, 3)), heads("key", (0, 2, 3, 1)))
    scaled = graph.add("Mul", scores, graph.number((WIDTH // _HEADS) ** -0.5))
    shares = graph.add("Softmax", graph.add("Add", scaled, penalty), axis=-1)
    mixed = graph.add("MatMul", shares, heads("value", (0, 2, 1, 3)))
    return graph.add("Reshape", graph.add("Transpose", mixed, perm=(0, 2, 1, 3)), graph.whole(0, 0, WIDTH))


def _mean(graph: _Graph, hidden: str, mask: str) -> str:
    kept = graph.add("Mul", hidden, graph.add("Unsqueeze", mask, graph.whole(2)))
    total = graph.add("ReduceSum", kept, graph.whole(1), keepdims=0)
    return graph.add("Div", total, graph.add("ReduceSum", mask, graph.whole(1), keepdims=1))


def _model(graph: _Graph) -> ModelProto:
    whole = [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"]) for name in ("ids", "mask")]
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["texts", WIDTH])
    made = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", whole, [vectors], list(graph.constants.values()))
    # An older runtime reads an older file: what the installed onnx writes by default may be too new for it.
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


class _Graph:
    """Nodes in the order in which they run, and the constants they read, by name."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        out = out or f"{kind}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(f"number {value}", np.array(value, np.float32))

    def whole(self, *values: int) -> str:
        return self.constant(f"whole {values}", np.array(values, np.int64))

    def linear(self, name: str, hidden: str) -> str:
        # PyTorch keeps the matrix of a linear layer as [out, in].
        matrix = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.add("Add", self.add("MatMul", hidden, matrix), bias)

    def norm(self, name: str, hidden: str) -> str:
        scale = self.constant(f"{name}.weight", self.weights[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.add("LayerNormalization", hidden, scale, bias, axis=-1, epsilon=_EPSILON)
