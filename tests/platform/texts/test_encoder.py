"""Sentence encoders: what is read, what is refused, and vectors that depend on the text alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save_model
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import nn

from rf_platform.errors import ConfigError, CorruptError
from rf_platform.texts.encoder import open_encoder
from rf_platform.texts.files import PACKAGED, encoder_files

WriteStatic = Callable[..., Path]
H, HEADS, LAYERS, INNER, PLACES = 8, 2, 2, 12, 6
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "war", "and", "peace"]


def write_bert(directory: Path, **config: object) -> dict[str, np.ndarray]:
    """Write a BERT of random weights in the layout of sentence-transformers."""
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), H),
        "embeddings.position_embeddings.weight": (PLACES, H),
        "embeddings.token_type_embeddings.weight": (2, H),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        linear = {f"attention.self.{part}": (H, H) for part in ("query", "key", "value")}
        linear |= {"attention.output.dense": (H, H), "intermediate.dense": (INNER, H), "output.dense": (H, INNER)}
        for name, shape in linear.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}  # type: ignore[dict-item]
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name in norms:
        shapes |= {f"{name}.weight": (H,), f"{name}.bias": (H,)}  # type: ignore[dict-item]
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    directory.mkdir(exist_ok=True)
    save_file(weights, directory / "model.safetensors")
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.save(str(directory / "tokenizer.json"))
    sizes = {"num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "max_position_embeddings": PLACES}
    described = {"model_type": "bert", "layer_norm_eps": 1e-12, "hidden_act": "gelu", **sizes, **config}
    (directory / "config.json").write_text(json.dumps(described))
    return weights


def by_torch(weights: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Vectors of tokens [L, H] by torch's own encoder layer, which is post-norm like BERT's."""

    def given(name: str) -> torch.Tensor:
        return torch.from_numpy(weights[name])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return nn.functional.layer_norm(x, (H,), given(f"{name}.weight"), given(f"{name}.bias"), 1e-12)

    x = given("embeddings.word_embeddings.weight")[ids] + given("embeddings.position_embeddings.weight")[: len(ids)]
    x = norm(x + given("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")[None]
    for i in range(LAYERS):
        layer, name = nn.TransformerEncoderLayer(H, HEADS, INNER, 0.0, "gelu", 1e-12, True), f"encoder.layer.{i}"
        heads = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        state = {
            f"self_attn.in_proj_{kind}": torch.cat([given(f"{head}.{kind}") for head in heads])
            for kind in ("weight", "bias")
        }
        named = {
            "self_attn.out_proj": "attention.output.dense",
            "linear1": "intermediate.dense",
            "linear2": "output.dense",
            "norm1": "attention.output.LayerNorm",
            "norm2": "output.LayerNorm",
        }
        for ours, theirs in named.items():
            state |= {f"{ours}.{kind}": given(f"{name}.{theirs}.{kind}") for kind in ("weight", "bias")}
        layer.load_state_dict(state)
        with torch.no_grad():
            x = layer.eval()(x)
    return x[0].numpy()


def test_a_bert_gives_what_torch_gives(tmp_path: Path) -> None:
    weights = write_bert(tmp_path)
    found = open_encoder(encoder_files(str(tmp_path))).encode(["war and peace", "war"])
    for vector, ids in zip(found, ([1, 4, 5, 6, 2], [1, 4, 2]), strict=True):
        mean = by_torch(weights, ids).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_vector_depends_on_its_text_alone(tmp_path: Path) -> None:
    write_bert(tmp_path)
    encoder = open_encoder(encoder_files(str(tmp_path)))
    texts = ["war", "peace", "war and peace", "war war", "and"] * 7
    together = encoder.encode(texts)
    np.testing.assert_array_equal(together, np.concatenate([encoder.encode([text]) for text in texts]))


def test_a_text_is_cut_off_where_the_encoder_ends(tmp_path: Path) -> None:
    write_bert(tmp_path)
    encoder = open_encoder(encoder_files(str(tmp_path)))
    many, most = encoder.encode(["war " * 10_000, "war " * (PLACES - 2)])
    np.testing.assert_array_equal(many, most)


def test_pooling_and_scale_follow_the_settings(tmp_path: Path) -> None:
    weights = write_bert(tmp_path)
    steps = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in steps]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (found,) = open_encoder(encoder_files(str(tmp_path))).encode(["war"])
    np.testing.assert_allclose(found, by_torch(weights, [1, 4, 2])[0], atol=1e-5)


def test_an_onnx_graph_gets_the_inputs_that_it_asks_for(tmp_path: Path) -> None:
    """Each token's vector is its id and the mask's value: the mean of [CLS] war [SEP] is ((1 + 4 + 2) / 3, 1)."""
    write_bert(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["a", "last"], ["c"]),
        helper.make_node("Unsqueeze", ["b", "last"], ["d"]),
        helper.make_node("Concat", ["c", "d"], ["hidden"], axis=2),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["t", "l"]) for n in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["t", "l", 2])]
    last = helper.make_tensor("last", TensorProto.INT64, [1], [2])
    graph = helper.make_graph(nodes, "g", inputs, outputs, [last])
    (tmp_path / "onnx").mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    save_model(model, tmp_path / "onnx" / "model.onnx")
    files = encoder_files(str(tmp_path))
    assert files.form == "onnx"
    (found,) = open_encoder(files).encode(["war"])
    np.testing.assert_allclose(found, np.array([7 / 3, 1]) / np.hypot(7 / 3, 1), rtol=1e-6)


def test_a_static_encoder_is_the_mean_of_its_words(tmp_path: Path, write_static_encoder: WriteStatic) -> None:
    write_static_encoder(tmp_path, {"war": [2.0, 0.0], "peace": [0.0, 4.0]})
    found = open_encoder(encoder_files(str(tmp_path))).encode(["War peace", "war", "..."])
    assert found.tolist() == [[1.0, 2.0], [2.0, 0.0], [0.0, 0.0]]


def test_the_identity_follows_the_content(tmp_path: Path, write_static_encoder: WriteStatic) -> None:
    words = {"war": [2.0, 0.0], "peace": [0.0, 4.0]}
    first, same = (encoder_files(str(write_static_encoder(tmp_path / n, words))).identity for n in ("a", "b"))
    other = encoder_files(str(write_static_encoder(tmp_path / "c", {**words, "war": [2.0, 1.0]}))).identity
    assert first == same != other
    (tmp_path / "b" / "config.json").write_text('{"model_type": "model2vec", "normalize": true}')
    assert encoder_files(str(tmp_path / "b")).identity != first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mpnet"}, r"is a mpnet.*export it to ONNX"),
        ({"hidden_act": "relu"}, r"another kind.*export it to ONNX"),
    ],
)
def test_other_models_are_refused_with_a_way_out(tmp_path: Path, change: dict[str, str], message: str) -> None:
    write_bert(tmp_path, **change)
    with pytest.raises(ConfigError, match=message):
        encoder_files(str(tmp_path))


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nowhere' is neither a directory nor one of minilm"):
        encoder_files("nowhere")
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
        encoder_files(str(tmp_path))
    write_bert(tmp_path)
    (tmp_path / "modules.json").write_text('[{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]')
    with pytest.raises(ConfigError, match=r"a step Dense, which is not known"):
        encoder_files(str(tmp_path))


def test_damaged_weights_are_named(tmp_path: Path, write_static_encoder: WriteStatic) -> None:
    weights = write_bert(tmp_path / "bert")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, tmp_path / "bert" / "model.safetensors")
    with pytest.raises(CorruptError, match=r"lacks 'encoder\.layer\.1\.output\.dense\.bias'"):
        open_encoder(encoder_files(str(tmp_path / "bert")))
    write_static_encoder(tmp_path / "static", {"war": [1.0]})
    (tmp_path / "static" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CorruptError, match=r"model\.safetensors"):
        open_encoder(encoder_files(str(tmp_path / "static")))


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_encoders_put_like_beside_like(name: str) -> None:
    try:
        files = encoder_files(name)
    except ConfigError:
        pytest.skip(f"the package of '{name}' is not installed")
    ship, boat, tax = open_encoder(files).encode(["a ship at sea", "boats on the ocean", "income tax return"])
    assert ship @ boat > ship @ tax + 0.2
    np.testing.assert_allclose(np.linalg.norm([ship, boat, tax], axis=1), 1, rtol=1e-5)
