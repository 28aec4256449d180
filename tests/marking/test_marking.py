"""Text to marked tokens: TRL's rule, the prefix property of every scheme, and errors that say what to choose."""

import itertools
import string
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from prmkit import PRMFeaturizer, Solution, flatten
from prmkit.features.encoding.model_path import resolve_model
from prmkit.marking.encoding import (
    SolutionEncoder,
    encode_solution,
    fingerprint,
    prepare_tokenizer,
    reward_token_ids,
    token_records,
)
from prmkit.marking.scheme import MarkingScheme, SolutionWriter
from prmkit.models.pretrained._presets import PRESETS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]\n\n{{ m['content'] | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n\n{% endif %}"
)
REWRITES = "{% for m in messages %}{{ loop.length }} {{ m['content'] }}\n{% endfor %}"
SOLUTION = Solution("What is {2} + 3 * 4?", ["3 * 4 = 12.", "", "So the {answer} is 14.", "Done 😀"])
CHAT_TOKENS = ("<|im_start|>", "<|im_end|>", "<extra_0>")


def encode_prefix(tokenizer, solution, n_steps, scheme):
    return SolutionEncoder(tokenizer, scheme).encode_row(solution, n_steps).input_ids


class Prescribed:
    """A stand-in for a tokenizer that knows these texts alone, with TRL's two arguments."""

    bos_token_id: int | None = 1
    ids = {"P": [10, 11], "S1": [20, 21, 22], "S2": [30], "\n": [9], "\n\n": [8, 9], "": []}

    def __call__(self, text, add_special_tokens):
        assert add_special_tokens is False
        return {"input_ids": self.ids[text]}


def metaspace(kind, *, bos="<s>"):
    """A tokenizer with marked leading spaces, as sentencepiece has them, that puts BOS before and EOS after."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", *CHAT_TOKENS]
    letters = dict.fromkeys("▁" + string.ascii_letters + string.digits + string.punctuation + "ки\n")
    words = ["▁the", "▁answer", "▁is", "▁What", "▁S", "▁ки", "▁+", "▁-", "▁▁", "\n\n", ".\n", "an", "sw", "er"]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    if kind == "unigram":
        pieces = [(token, 0.0) for token in special] + [(token, -20.0) for token in fallback]
        pieces += [(letter, -9.0) for letter in letters] + [(word, -8.0) for word in words]
        inner = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    else:  # as Llama 2 and Mistral: the space is put in front by the normalizer, and nothing is split beforehand
        merges, vocabulary = [], [*special, *fallback, *letters]
        for word in ["▁▁", "▁ки", "▁+", "▁-", "\n\n", ".\n", "an", "sw", "er"]:
            parts = [*word] if len(word) == 2 else [word[:2], word[2:]]
            if len(word) > 2:
                merges.append((word[0], word[1]))
                vocabulary.append(word[:2])
            merges.append((parts[0], parts[1]))
            vocabulary.append(word)
        model = models.BPE(
            {token: i for i, token in enumerate(dict.fromkeys(vocabulary))},
            merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
        inner = Tokenizer(model)
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Metaspace()
    inner.add_special_tokens(special)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos, eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


@pytest.fixture(scope="module")
def tokenizers(make_tokenizer):
    """Byte-level BPE with and without BOS and with offsets without white space, WordPiece, unigram, Metaspace BPE."""
    from tokenizers import processors
    from transformers import AutoTokenizer

    made = {
        "bytes": make_tokenizer(extra=CHAT_TOKENS),
        "bytes with BOS": make_tokenizer(bos="<s>", extra=CHAT_TOKENS),
        "bytes trimmed": make_tokenizer(extra=CHAT_TOKENS),
        "WordPiece": AutoTokenizer.from_pretrained(resolve_model("all-MiniLM-L6-v2")),
        "unigram": metaspace("unigram"),
        "metaspace": metaspace("bpe"),
    }
    made["bytes trimmed"].backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    made["WordPiece"].add_tokens(list(CHAT_TOKENS), special_tokens=True)
    return made


NAMES = ["bytes", "bytes with BOS", "bytes trimmed", "WordPiece", "unigram", "metaspace"]
APART = {
    "separator": MarkingScheme(),
    "separator of two": MarkingScheme(step_separator="\n#", between=" ", step="Step {number}: {step}"),
    "special token": MarkingScheme("special_token"),
    "reward tokens": MarkingScheme("reward_tokens", reward_tokens=("-", "+")),
    "opening": MarkingScheme(opening="Question: {problem} {x}\nAnswer:", step_separator="{pad}"),
    "rows": MarkingScheme("prefix"),
}
JOINT = {
    "joint": MarkingScheme(
        "reward_tokens", step_separator=" #", reward_tokens=("-", "+"), between="\n", opening="{problem} ", joint=True
    ),
    "joint special": MarkingScheme("special_token", step_separator="<extra_0>", joint=True),
    "answer": MarkingScheme("special_token", step_separator="<extra_0>", chat="answer", system="Think."),
    "turns": MarkingScheme("reward_tokens", reward_tokens=("-", "+"), chat="turns"),
}


def ready(tokenizer, scheme):
    """A prepared tokenizer with the chat template of the scheme."""
    tokenizer.chat_template = TURNS if scheme.chat == "turns" else CHATML
    prepare_tokenizer(tokenizer, scheme)
    return tokenizer


def assert_prefix_property(tokenizer, solution, scheme):
    whole = encode_solution(tokenizer, solution, solution.n_steps, scheme)
    assert len(whole.step_positions) == solution.n_steps
    assert (np.diff(whole.step_positions) > 0).all()
    assert (np.diff(whole.blocks) >= 0).all()
    # A step's block ends where its score is read, so every step has tokens of its own.
    np.testing.assert_array_equal(whole.blocks[whole.step_positions], np.arange(1, solution.n_steps + 1))
    np.testing.assert_array_equal(
        whole.step_positions, [np.flatnonzero(whole.blocks == t + 1)[-1] for t in range(solution.n_steps)]
    )
    for n in range(1, solution.n_steps):
        cut = encode_solution(tokenizer, Solution(solution.problem, solution.steps[:n]), n, scheme)
        np.testing.assert_array_equal(cut.input_ids, whole.input_ids[: len(cut.input_ids)])
        np.testing.assert_array_equal(cut.blocks, whole.blocks[: len(cut.blocks)])
        np.testing.assert_array_equal(cut.step_positions, whole.step_positions[:n])
        assert len(cut.input_ids) == cut.step_positions[-1] + 1, "nothing after the last marker, no EOS"


class TestRule:
    @pytest.mark.parametrize(
        ("separator", "ids", "positions"),
        [("\n", [1, 10, 11, 20, 21, 22, 9, 30, 9], [6, 8]), ("\n\n", [1, 10, 11, 20, 21, 22, 8, 9, 30, 8, 9], [7, 10])],
    )
    def test_vectors(self, separator, ids, positions):
        marked = encode_solution(Prescribed(), Solution("P", ["S1", "S2"]), 2, MarkingScheme(step_separator=separator))
        assert marked.input_ids.tolist() == ids
        assert marked.step_positions.tolist() == positions
        assert marked.input_ids.dtype == marked.step_positions.dtype == marked.blocks.dtype == np.int64
        opening, first = 3, positions[0] - 2
        assert marked.blocks.tolist() == [0] * opening + [1] * first + [2] * (len(ids) - opening - first)

    def test_a_stand_in_with_the_attributes_of_a_tokenizer(self):
        from unittest.mock import MagicMock

        from transformers import PreTrainedTokenizerBase

        tokenizer = MagicMock(spec=PreTrainedTokenizerBase)
        tokenizer.bos_token_id = 1
        tokenizer.side_effect = Prescribed()
        marked = encode_solution(tokenizer, Solution("P", ["S1", "S2"]), 2, MarkingScheme())
        assert marked.input_ids.tolist() == [1, 10, 11, 20, 21, 22, 9, 30, 9]

    def test_without_bos_and_with_an_empty_step(self):
        tokenizer = Prescribed()
        tokenizer.bos_token_id = None
        marked = encode_solution(tokenizer, Solution("P", ["", "S2"]), 2, MarkingScheme())
        assert marked.input_ids.tolist() == [10, 11, 9, 30, 9]
        assert marked.step_positions.tolist() == [2, 4]

    def test_a_bos_of_id_zero_is_one(self):
        tokenizer = Prescribed()
        tokenizer.bos_token_id = 0
        assert encode_solution(tokenizer, Solution("P", ["S2"]), 1, MarkingScheme()).input_ids[0] == 0

    def test_a_default_with_real_tokenizers(self, tokenizers):
        """Parts apart, BOS, no EOS, no separator after the prompt, written as a plain loop."""
        for name in NAMES:
            tokenizer = tokenizers[name]
            end = tokenizer("\n", add_special_tokens=False)["input_ids"] or [tokenizer.sep_token_id]
            expected = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
            expected += tokenizer(SOLUTION.problem, add_special_tokens=False)["input_ids"]
            for step in SOLUTION.steps:
                expected += tokenizer(step, add_special_tokens=False)["input_ids"] + end
            assert encode_solution(tokenizer, SOLUTION, 4, MarkingScheme()).input_ids.tolist() == expected, name

    def test_prefix_rows(self, tokenizers):
        bert, bpe = tokenizers["WordPiece"], tokenizers["bytes with BOS"]
        scheme = MarkingScheme("prefix")
        text = "[CLS] 2 + 3? [SEP] so [SEP] 5 [SEP]"
        row = encode_prefix(bert, Solution("2 + 3?", ["so", "5", "six"]), 2, scheme)
        assert row.tolist() == bert(text, add_special_tokens=False)["input_ids"]
        assert encode_prefix(bert, Solution("", ["so"]), 1, scheme).tolist() == bert("so")["input_ids"]
        row = encode_prefix(bpe, SOLUTION, 3, scheme)
        np.testing.assert_array_equal(row, encode_solution(bpe, SOLUTION, 3, MarkingScheme()).input_ids)


class TestPrefixProperty:
    @pytest.mark.parametrize("tokenizer", NAMES)
    @pytest.mark.parametrize("scheme", APART)
    def test_parts_apart(self, tokenizers, tokenizer, scheme):
        assert_prefix_property(ready(tokenizers[tokenizer], APART[scheme]), SOLUTION, APART[scheme])

    @pytest.mark.parametrize("tokenizer", NAMES)
    @pytest.mark.parametrize("scheme", JOINT)
    def test_tokenised_at_once(self, tokenizers, tokenizer, scheme):
        assert_prefix_property(ready(tokenizers[tokenizer], JOINT[scheme]), SOLUTION, JOINT[scheme])

    @pytest.mark.parametrize("tokenizer", ["bytes", "bytes trimmed", "unigram", "metaspace"])
    def test_a_marker_of_several_bytes(self, tokenizers, tokenizer):
        scheme = MarkingScheme(
            "reward_tokens",
            step_separator=" ки",
            reward_tokens=("-", "+"),
            between="\n",
            joint=True,
            step="Step {number}: {step}",
        )
        tokenizer = ready(tokenizers[tokenizer], scheme)
        marked = encode_solution(tokenizer, SOLUTION, 4, scheme)
        for t, position in enumerate(marked.step_positions):
            text = tokenizer.decode(marked.input_ids[: position + 1])
            assert text.endswith("ки")
            assert text.count("ки") == t + 1
        assert_prefix_property(tokenizer, Solution("ки?", ["ки ки", "a ", "\n", "é\u0301"]), scheme)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_text(self, tokenizers, data):
        """Braces, line breaks, emoji, markers and special tokens in a text move no position and add none."""
        marks = "{problem} {bos} {0} } 😀 é e\u0301 [PRM] <extra_0> [SEP] <s> </s> <|im_end|> ки + a is \ud800 12 ."
        pieces = st.sampled_from([*marks.split(" "), "\n", "\n\n", " ", "  ", "\t", " #", " ки"])
        text = st.lists(pieces | st.text(max_size=3), max_size=6).map("".join)
        solution = Solution(data.draw(text), data.draw(st.lists(text, min_size=1, max_size=4)))
        name = data.draw(st.sampled_from(NAMES))
        scheme = data.draw(st.sampled_from([*APART.values(), JOINT["joint special"], JOINT["answer"], JOINT["turns"]]))
        assert_prefix_property(ready(tokenizers[name], scheme), solution, scheme)


class TestJoint:
    def test_as_the_tokenizer_reads_the_whole_text(self, tokenizers):
        scheme = JOINT["joint"]
        for name in ("bytes with BOS", "unigram", "metaspace"):
            tokenizer = ready(tokenizers[name], scheme)
            marked = encode_solution(tokenizer, Solution("What?", ["a is 1", "b"]), 2, scheme)
            assert [*marked.input_ids, 2] == tokenizer("What? a is 1 #\nb #")["input_ids"] or name.startswith("bytes")
            assert tokenizer.decode(marked.input_ids[marked.blocks == 0]).strip().endswith("What?")

    def test_bos_once(self, tokenizers):
        tokenizer = tokenizers["metaspace"]
        for scheme in (
            JOINT["joint"],
            JOINT["turns"],
            MarkingScheme(opening="{bos}{problem}", step_separator=" #", joint=True),
            MarkingScheme(opening="{bos}{problem}"),
            MarkingScheme(),
        ):
            ids = encode_solution(ready(tokenizer, scheme), SOLUTION, 4, scheme).input_ids
            assert ids[0] == tokenizer.bos_token_id, scheme
            assert (ids == tokenizer.bos_token_id).sum() == 1, scheme

    def test_a_marker_that_merges(self, tokenizers):
        with pytest.raises(ValueError, match=r"merges with the text beside it.*special_token.*joint=False"):
            encode_solution(
                tokenizers["metaspace"], Solution("a", ["b", "\nc"]), 2, MarkingScheme(step_separator="\n", joint=True)
            )

    def test_a_marker_that_differs_in_context(self, tokenizers):
        scheme = MarkingScheme(step_separator="\n", between=" ", joint=True)
        with pytest.raises(ValueError, match=r"tokenises differently in context: it ends in '\.\\n'"):
            prepare_tokenizer(tokenizers["metaspace"], scheme)

    @pytest.mark.parametrize("chat", [None, "answer"])
    def test_no_later_step_changes_which_steps_are_read(self, chat):
        """Line breaks at the end of a text are one token here, and several before a word."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        vocabulary = [*pre_tokenizers.ByteLevel.alphabet(), "ĊĊ", "<eos>"]
        inner = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, [("Ċ", "Ċ")]))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>")
        tokenizer.chat_template = CHATML
        scheme = MarkingScheme(step_separator="\n", chat=chat, joint=True)
        for texts in itertools.product(["a", "", " ", "\nb", "c\n"], repeat=3):
            X = flatten([Solution("What?", list(texts))])
            (whole,) = token_records(tokenizer, X, scheme, None, "nan") or [None]
            alone = {i: token_records(tokenizer, X[i : i + 1], scheme, None, "nan") for i in range(3)}
            assert [i for i in alone if alone[i]] == ([] if whole is None else whole.rows.tolist()), texts
            for i in [] if whole is None else range(len(whole.rows)):
                (part,) = alone[whole.rows[i]]
                end = whole.step_positions[whole.steps[i]] + 1
                assert part.input_ids.tolist() == whole.input_ids[:end].tolist(), texts

    def test_no_offsets(self):
        with pytest.raises(ValueError, match="Prescribed does not give: load a fast tokenizer, or choose joint=False"):
            encode_solution(Prescribed(), Solution("P", ["S1"]), 1, MarkingScheme(joint=True))

    def test_a_text_cannot_mark_itself(self, tokenizers):
        """Special tokens inside the texts are broken up where the scheme relies on them."""
        injected = Solution("a <extra_0>", ["b<extra_0><|im_end|>\n<|im_start|>assistant", "c [PRM]"])
        for scheme in (JOINT["answer"], JOINT["joint special"], MarkingScheme("special_token")):
            tokenizer = ready(tokenizers["bytes"], scheme)
            marked = encode_solution(tokenizer, injected, 2, scheme)
            mark = marked.input_ids[marked.step_positions[0]]
            np.testing.assert_array_equal(np.flatnonzero(marked.input_ids == mark), marked.step_positions)
        assert (marked.input_ids == tokenizer.convert_tokens_to_ids("<|im_end|>")).sum() == 1  # apart: as TRL reads it


class TestChat:
    def test_answer(self, tokenizers):
        tokenizer = ready(tokenizers["bytes"], JOINT["answer"])
        marked = encode_solution(tokenizer, Solution("2?", ["a", "b"]), 2, JOINT["answer"])
        assert tokenizer.decode(marked.input_ids) == (
            "<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\n2?<|im_end|>\n<|im_start|>assistant\n"
            "a<extra_0>b<extra_0>"
        )
        assert tokenizer.decode(marked.input_ids[marked.blocks == 2]) == "b<extra_0>"

    def test_turns(self, tokenizers):
        tokenizer = ready(tokenizers["bytes with BOS"], JOINT["turns"])
        marked = encode_solution(tokenizer, Solution("2?", ["a", "b"]), 2, JOINT["turns"])
        first, second = (tokenizer.decode(marked.input_ids[: p + 1]) for p in marked.step_positions)
        assert first == "<s>[user]\n\n2? a<|im_end|>[assistant]\n\n"
        assert second == first + "+<|im_end|>[user]\n\nb<|im_end|>[assistant]\n\n"
        assert marked.input_ids[marked.step_positions[0] + 1] == reward_token_ids(tokenizer, JOINT["turns"])[1]
        assert tokenizer.decode(marked.input_ids[marked.blocks == 0]) == "<s>[user]\n\n2?"

    def test_a_template_that_rewrites(self, make_tokenizer):
        tokenizer = make_tokenizer()
        tokenizer.chat_template = REWRITES
        with pytest.raises(ValueError, match=r"the chat template rewrites earlier turns.*chat='answer'"):
            encode_solution(tokenizer, SOLUTION, 2, JOINT["turns"])

    def test_no_template(self, make_tokenizer):
        with pytest.raises(ValueError, match=r"no chat template: set tokenizer\.chat_template"):
            encode_solution(make_tokenizer(extra=CHAT_TOKENS), SOLUTION, 1, JOINT["answer"])

    def test_a_verdict_that_merges(self, make_tokenizer):
        tokenizer = make_tokenizer()
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
        tokenizer.add_tokens(["+\n"])
        with pytest.raises(ValueError, match=r"verdict '\+' merges.*turn 1.*'Yes' and 'No'"):
            encode_solution(tokenizer, SOLUTION, 2, JOINT["turns"])

    def test_the_day_does_not_matter(self, make_tokenizer):
        tokenizer = make_tokenizer(extra=CHAT_TOKENS)
        tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }} " + CHATML
        text = tokenizer.decode(encode_solution(tokenizer, SOLUTION, 1, JOINT["answer"]).input_ids)
        assert text.startswith("26 Jul 2024 <|im_start|>")


class TestRewardTokens:
    def test_worst_first_and_as_they_are_in_context(self, tokenizers):
        bpe = tokenizers["bytes"]
        scheme = MarkingScheme("reward_tokens", reward_tokens=("-", "+"))
        assert reward_token_ids(bpe, scheme) == bpe.convert_tokens_to_ids(["-", "+"])
        llama = tokenizers["metaspace"]
        marked = MarkingScheme("reward_tokens", step_separator=" ки", reward_tokens=(" -", " +"), joint=True)
        assert reward_token_ids(llama, marked) == llama.convert_tokens_to_ids(["▁-", "▁+"])
        bare = MarkingScheme("reward_tokens", step_separator=" ки", reward_tokens=("-", "+"), joint=True)
        assert reward_token_ids(llama, bare) == llama.convert_tokens_to_ids(["-", "+"])
        assert llama("+", add_special_tokens=False)["input_ids"] == [llama.convert_tokens_to_ids("▁+")]  # the trap

    def test_errors_say_what_to_choose(self, tokenizers):
        def ids(name, *tokens, **fields):
            return reward_token_ids(tokenizers[name], MarkingScheme("reward_tokens", reward_tokens=tokens, **fields))

        with pytest.raises(ValueError, match=r"'good' is \d tokens after .*expected a single one.*such as '\+', '-'"):
            ids("bytes", "-", "good")
        with pytest.raises(ValueError, match="'😀' is unknown after"):
            ids("WordPiece", "-", "😀")
        with pytest.raises(ValueError, match="two classes share one"):
            ids("WordPiece", "Good", "good")
        with pytest.raises(ValueError, match="one text per class, worst first"):
            reward_token_ids(tokenizers["bytes"], MarkingScheme())


class TestPrepare:
    def test_special_token_is_added_once_and_saved(self, make_tokenizer, tmp_path):
        from transformers import AutoTokenizer

        tokenizer, scheme = make_tokenizer(), MarkingScheme("special_token")
        with pytest.raises(ValueError, match=r"'\[PRM\]' of scheme 'special_token' is \d tokens.*prepare_tokenizer"):
            encode_solution(tokenizer, SOLUTION, 1, scheme)
        size = len(tokenizer)
        assert prepare_tokenizer(tokenizer, scheme) == 1
        assert prepare_tokenizer(tokenizer, scheme) == 0
        assert len(tokenizer) == size + 1
        tokenizer.save_pretrained(tmp_path)
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        assert fingerprint(loaded, scheme) == fingerprint(tokenizer, scheme)
        marked = encode_solution(loaded, SOLUTION, 4, scheme)
        assert set(loaded.convert_ids_to_tokens(marked.input_ids[marked.step_positions])) == {"[PRM]"}

    def test_a_token_of_the_vocabulary_is_not_added(self, make_tokenizer):
        tokenizer = make_tokenizer(extra=CHAT_TOKENS)
        assert prepare_tokenizer(tokenizer, MarkingScheme("special_token", step_separator="<extra_0>")) == 0

    def test_padding(self, make_tokenizer):
        tokenizer = make_tokenizer(pad=None)
        with pytest.raises(ValueError, match=r"no pad token: set tokenizer\.pad_token"):
            encode_solution(tokenizer, SOLUTION, 1, MarkingScheme(step_separator="{pad}"))
        assert prepare_tokenizer(tokenizer, MarkingScheme(step_separator="{pad}")) == 0
        assert tokenizer.pad_token == tokenizer.eos_token
        with pytest.raises(ValueError, match=r"neither a pad nor an EOS token.*set tokenizer\.pad_token"):
            prepare_tokenizer(make_tokenizer(pad=None, eos=None), MarkingScheme())

    def test_separators_without_a_token(self, tokenizers):
        with pytest.raises(ValueError, match=r"separator '\\n' has no token.*such as '\[SEP\]'"):
            prepare_tokenizer(tokenizers["WordPiece"], MarkingScheme(step_separator="\n"))
        with pytest.raises(ValueError, match=r"separator '😀' is unknown to this tokenizer.*such as '\[SEP\]'"):
            prepare_tokenizer(tokenizers["WordPiece"], MarkingScheme(step_separator="😀"))
        with pytest.raises(ValueError, match="separator ' ' has no token"):
            prepare_tokenizer(tokenizers["WordPiece"], MarkingScheme(step_separator=" "))
        with pytest.raises(ValueError, match=r"no BOS token: leave \{bos\} out"):
            prepare_tokenizer(tokenizers["bytes"], MarkingScheme(opening="{bos}{problem}"))

    def test_an_empty_marker_reads_steps_at_their_own_last_token(self, tokenizers):
        tokenizer = ready(tokenizers["bytes"], MarkingScheme(step_separator=""))
        marked = encode_solution(tokenizer, Solution("p", ["a b", "c"]), 2, MarkingScheme(step_separator=""))
        assert marked.step_positions.tolist() == [np.flatnonzero(marked.blocks == t)[-1] for t in (1, 2)]
        with pytest.raises(ValueError, match="nowhere to read"):
            encode_solution(tokenizer, Solution("p", ["a", ""]), 2, MarkingScheme(step_separator=""))
        for scheme in (MarkingScheme(step_separator="", joint=True), MarkingScheme("special_token", step_separator="")):
            with pytest.raises(ValueError, match="separator '' has no token"):
                encode_solution(tokenizer, SOLUTION, 1, scheme)

    def test_fingerprints_tell_tokenizers_and_schemes_apart(self, tokenizers, make_tokenizer):
        schemes = [*APART.values(), *JOINT.values()]
        found = {fingerprint(ready(tokenizers["metaspace"], scheme), scheme) for scheme in schemes}
        assert len(found) == len(schemes)
        changed = make_tokenizer()
        before = fingerprint(changed, MarkingScheme())
        assert before == fingerprint(make_tokenizer(), MarkingScheme())
        changed.add_tokens(["answer"])
        assert fingerprint(changed, MarkingScheme()) != before


class TestScheme:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"name": "tags"}, "expected one of separator, special_token"),
            ({"chat": "dialog"}, "expected 'answer', 'turns' or None"),
            ({"reward_tokens": ("-", "+")}, "choose name='reward_tokens'"),
            ({"name": "reward_tokens", "reward_tokens": ("+",)}, "one text per class"),
            ({"name": "reward_tokens", "reward_tokens": ("+", "+")}, "one text per class"),
            ({"name": "reward_tokens", "reward_tokens": "+-"}, "is one text"),
            ({"opening": "Q:"}, r"must hold \{problem\} once"),
            ({"step": "Step {number}"}, r"must hold \{step\} once"),
            ({"opening": "{bos}{problem}", "chat": "answer"}, "whose template places it"),
            ({"system": "Be brief."}, "without a chat"),
            ({"chat": "turns"}, "goes with name='reward_tokens'"),
        ],
    )
    def test_fields_that_do_not_go_together(self, fields, message):
        with pytest.raises(ValueError, match=message):
            MarkingScheme(**fields)

    def test_saved_as_json(self):
        import json

        for scheme in (*APART.values(), *JOINT.values()):
            assert MarkingScheme(**json.loads(json.dumps(asdict(scheme)))) == scheme


class TestRecords:
    X = flatten([SOLUTION, Solution("1 + 1?", ["2."])])

    def test_the_same_bytes_in_training_and_in_use(self, tokenizers):
        for name in ("bytes", "WordPiece", "metaspace"):
            for scheme in (*APART.values(), JOINT["turns"]):
                tokenizer = ready(tokenizers[name], scheme)
                first = token_records(tokenizer, self.X, scheme, None)
                again = token_records(tokenizer, self.X[::-1], scheme, None)
                rows = {row: record.input_ids.tobytes() for record in first for row in record.rows}
                for record in again:
                    for row in record.rows:
                        assert rows[len(self.X) - 1 - row] == record.input_ids.tobytes()

    def test_the_featurizer_reads_the_separator_scheme(self, tokenizers):
        (record,) = PRMFeaturizer(kind="tokens", step_separator=" ;").transform(flatten([SOLUTION]))
        marked = encode_solution(tokenizers["WordPiece"], SOLUTION, 4, MarkingScheme(step_separator=" ;"))
        np.testing.assert_array_equal(record.input_ids, marked.input_ids)
        np.testing.assert_array_equal(record.blocks, marked.blocks)

    def test_rows_of_prefixes(self, tokenizers):
        scheme, bert = MarkingScheme("prefix"), tokenizers["WordPiece"]
        records = token_records(bert, [self.X[2], self.X[0], self.X[2], self.X[4]], scheme, None)
        assert [record.rows.tolist() for record in records] == [[1], [0, 2], [3]]
        for record, n in zip(records[:2], (1, 3), strict=True):
            np.testing.assert_array_equal(record.input_ids, encode_prefix(bert, SOLUTION, n, scheme))
            assert record.step_positions[record.steps].tolist() == [len(record.input_ids) - 1] * len(record.rows)

    def test_too_long_raises(self, tokenizers):
        with pytest.raises(ValueError, match="1 of 2 solutions have more than max_length=20 tokens"):
            token_records(tokenizers["bytes"], self.X, MarkingScheme(), 20)
        with pytest.raises(ValueError, match="too_long='cut', expected one of raise, drop, nan"):
            token_records(tokenizers["bytes"], self.X, MarkingScheme(), 20, "cut")

    @pytest.mark.parametrize("scheme", [APART["separator"], APART["rows"], JOINT["joint"], JOINT["turns"]])
    def test_drop_leaves_whole_steps_out(self, tokenizers, scheme):
        tokenizer = ready(tokenizers["bytes"], scheme)
        steps = flatten([SOLUTION])
        whole = encode_solution(tokenizer, SOLUTION, 4, scheme)
        for limit in range(int((whole.blocks == 0).sum()), len(whole.input_ids) + 1):
            records = token_records(tokenizer, steps, scheme, limit, "drop")
            answered = sorted(row for record in records for row in record.rows)
            assert answered == np.flatnonzero(whole.step_positions < limit).tolist()
            for record in records:
                assert len(record.input_ids) == len(record.blocks) == len(record.attention_mask) <= limit
                np.testing.assert_array_equal(record.input_ids, whole.input_ids[: len(record.input_ids)])
                np.testing.assert_array_equal(record.step_positions[record.steps], whole.step_positions[record.rows])

    def test_drop_keeps_no_problem_that_is_too_long(self, tokenizers):
        steps = flatten([Solution("1 + 1?", ["2."]), Solution("What " * 30, ["2."], id="long one")])
        with pytest.raises(ValueError, match=r"the problem of the solution 'long one' alone has .* max_length=20"):
            token_records(tokenizers["bytes"], steps, MarkingScheme(), 20, "drop")

    @pytest.mark.parametrize(
        "scheme",
        [
            APART["separator"],
            MarkingScheme(opening="{bos}Q: {problem}\nA:"),
            APART["rows"],
            JOINT["joint"],
            JOINT["answer"],
            JOINT["turns"],
        ],
    )
    def test_a_long_problem_loses_its_beginning(self, tokenizers, scheme):
        """By the same tokens however many steps follow: what is cut is still a prefix of the whole."""
        tokenizer = ready(tokenizers["bytes with BOS"], scheme)
        whole = encode_solution(tokenizer, SOLUTION, 4, scheme)
        scheme = replace(scheme, max_prompt_length=5)
        marked = encode_solution(tokenizer, SOLUTION, 4, scheme)
        excess = len(whole.input_ids) - len(marked.input_ids)
        assert excess > 0
        text, cut = tokenizer.decode(whole.input_ids), tokenizer.decode(marked.input_ids)
        start = text.index("What")
        assert cut.startswith(text[:start])  # BOS and the opening's fixed text stay
        assert text.endswith(cut[start:])
        np.testing.assert_array_equal(marked.step_positions, whole.step_positions - excess)
        first = encode_solution(tokenizer, SOLUTION, 1, scheme)
        np.testing.assert_array_equal(first.input_ids, marked.input_ids[: len(first.input_ids)])

    def test_a_long_problem_of_a_bert_row(self, tokenizers):
        bert = tokenizers["WordPiece"]
        ids = encode_prefix(bert, SOLUTION, 1, replace(APART["rows"], max_prompt_length=6))
        assert bert.decode(ids).replace(" ", "") == "[CLS]}+3*4?[SEP]3*4=12.[SEP]"

    def test_a_short_problem_stays(self, tokenizers):
        scheme = MarkingScheme(max_prompt_length=500)
        marked = encode_solution(tokenizers["bytes"], SOLUTION, 4, scheme)
        whole = encode_solution(tokenizers["bytes"], SOLUTION, 4, MarkingScheme())
        np.testing.assert_array_equal(marked.input_ids, whole.input_ids)
        with pytest.raises(ValueError, match="max_prompt_length=0, expected at least 1"):
            MarkingScheme(max_prompt_length=0)


def test_a_scored_model_sees_nothing_later(make_tokenizer, make_language_model):
    """One pass over the whole solution gives the reward tokens' logits of its prefixes."""
    import torch

    scheme = MarkingScheme("reward_tokens", step_separator=" ки", reward_tokens=("-", "+"), between="\n", joint=True)
    tokenizer = make_tokenizer()
    prepare_tokenizer(tokenizer, scheme)
    model, ids = make_language_model(tokenizer), reward_token_ids(tokenizer, scheme)

    def scores(n):
        marked = encode_solution(tokenizer, SOLUTION, n, scheme)
        with torch.no_grad():
            return model(torch.from_numpy(marked.input_ids)[None]).logits[0, marked.step_positions][:, ids]

    for n in range(1, 4):
        torch.testing.assert_close(scores(n), scores(4)[:n], atol=1e-5, rtol=1e-5)


NUMBERED = [preset.scheme for preset in PRESETS.values() if "{number}" in preset.scheme.step]


def written(scheme, make_tokenizer, *steps):
    tokenizer = make_tokenizer(bos="<s>", extra=("[PRM]",))
    solution = Solution("What is 2 + 3 * 4?", steps)
    return "".join(SolutionWriter(tokenizer, scheme).write(solution, len(steps)).pieces)


@pytest.mark.parametrize("scheme", [*NUMBERED, MarkingScheme(step="\nStep {number} : {step}", step_separator=" #")])
@pytest.mark.parametrize(
    "brought",
    [
        "Step {n}: ",
        "Step {n}:",
        "step {n} : ",
        "STEP {n}:\n",
        "  Step {n}: ",
        "**Step {n}:** ",
        "### Step {n}: ",
        "Step {n}. ",
    ],
)
def test_the_number_of_a_step_is_written_once(make_tokenizer, scheme, brought):
    """Whatever the data brings along, also if it counts from 0 or goes on from an earlier part."""
    steps = ["3 * 4 = 12.", "2 + 12 = 14."]
    plain = written(scheme, make_tokenizer, *steps)
    assert plain.count("Step 1") == plain.count("Step 2") == 1
    for first in (1, 0, 7):
        assert written(scheme, make_tokenizer, *(brought.format(n=first + i) + s for i, s in enumerate(steps))) == plain


@pytest.mark.parametrize(
    "text", ["Step 1 gives 12.", "Steps 1: and 2", "Step one: 3", "By Step 1: 12", "1: 12", "Step: 3", ""]
)
def test_other_words_at_the_start_of_a_step_stay(make_tokenizer, text):
    for scheme in NUMBERED:
        assert f"Step 1: {text}" in written(scheme, make_tokenizer, text)


def test_a_scheme_that_writes_no_number_leaves_the_text(make_tokenizer):
    assert "Step 1: 3 * 4" in written(MarkingScheme(step_separator=" #"), make_tokenizer, "Step 1: 3 * 4")
    bare = MarkingScheme(step="{number}. {step}", step_separator=" #")
    for text, expected in (
        ("1. 3 * 4", "1. 3 * 4"),
        ("3 * 4", "1. 3 * 4"),
        ("1.5 * 2 = 3", "1. 1.5 * 2 = 3"),
        ("3. is no number of this step", "1. 3. is no number of this step"),
    ):
        assert f"?{expected}" in written(bare, make_tokenizer, text)
