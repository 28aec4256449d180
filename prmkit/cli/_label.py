"""``prmkit label``: steps labelled by rollouts of a language model, from problems with known answers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from prmkit.cli._terminal import (
    LimitFlag,
    OnErrorFlag,
    complete_format,
    fail,
    flags_of,
    in_flags,
    in_words,
    options_of,
    say,
)

if TYPE_CHECKING:
    from collections import Counter

    from prmkit.decoding import TextGenerator
    from prmkit.decoding.verifiers.references import Verifier

_OTHERS = {"format": "--to {}", "n_solutions": "--solutions {}", "n_completions": "--completions {}"}
"""How settings are typed whose flags have other names."""


def label(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="Folder or Hugging Face name of a causal language model, or, with --base-url, its name at the server.",
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="PROBLEMS",
            show_default=False,
            help="JSON lines, also compressed, with the fields problem and answer, perhaps id. What else is there is "
            "kept as metadata.",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", show_default=False, help="File to write. It is gzipped if it ends in .gz.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            autocompletion=complete_format,
            help="The format of OUT, one of those below. rated also keeps the counts of each step.",
        ),
    ] = "stepwise",
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            show_default=False,
            help="A server with OpenAI's interface, such as http://localhost:8000/v1 (vLLM, SGLang, llama.cpp, "
            "Ollama). Without it, MODEL runs here.",
        ),
    ] = None,
    generator_option: Annotated[
        list[str] | None,
        typer.Option(
            "--generator",
            metavar="KEY=VALUE",
            help="An option of the generator, as Python has it: server=vllm, tokenizer=NAME, max_concurrency=64 for "
            "a server (OpenAIGenerator); dtype=bfloat16, device=cuda here (TransformersGenerator); system=TEXT for "
            "both.",
        ),
    ] = None,
    verifier: Annotated[
        str,
        typer.Option(
            "--verifier",
            metavar="math|exact|numeric|choice|tests",
            help="What tells whether a solution is right: its final answer against the field answer, compared as "
            "mathematics (pip install math-verify), by spelling, as a number, or as a letter; or Python code against "
            "the field tests.",
        ),
    ] = "math",
    problem_field: Annotated[
        str, typer.Option("--problem", metavar="FIELD", help="The field with the text of the problem.")
    ] = "problem",
    answer_field: Annotated[
        str, typer.Option("--answer", metavar="FIELD", help="The field with the right answer.")
    ] = "answer",
    n_solutions: Annotated[
        int, typer.Option("--solutions", metavar="NUMBER", help="Solutions to sample of each problem.")
    ] = 15,
    n_completions: Annotated[
        int, typer.Option("--completions", metavar="NUMBER", help="Largest number of completions of each step.")
    ] = 16,
    labels: Annotated[
        str,
        typer.Option(
            "--labels", metavar="hard|soft", help="Right if any completion is right, or the share of right completions."
        ),
    ] = "hard",
    search: Annotated[
        str,
        typer.Option(
            "--search", metavar="all|binary", help="Label all steps, or look for the first error by halving, for less."
        ),
    ] = "all",
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="NUMBER", help="Largest number of tokens of one completion.")
    ] = 2048,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="NUMBER", help="Temperature of the draws.")
    ] = 1.0,
    budget: Annotated[
        int | None,
        typer.Option(
            "--budget", metavar="NUMBER", show_default=False, help="Largest number of tokens to generate in all."
        ),
    ] = None,
    n_open: Annotated[
        int, typer.Option("--open", metavar="NUMBER", help="Problems that are worked on at a time.")
    ] = 32,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="FILE",
            show_default=False,
            help="File for all that is generated, to go on from. Default: OUT.log. It may be removed afterwards.",
        ),
    ] = None,
    random_state: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Seed of all draws.")] = 0,
    on_error: OnErrorFlag = "raise",
    limit: LimitFlag = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Label the steps of sampled solutions by what their completions reach. No person labels anything.

    Solutions are sampled for each problem, and completions from each of their steps. A step is right if a completion
    reaches the right answer. If a run is killed, type the same again: it goes on where it was, and generates nothing
    twice.

    A model on this machine:
      prmkit label Qwen/Qwen2.5-Math-1.5B-Instruct problems.jsonl steps.jsonl

    A server, shares in place of labels, at most ten million tokens:
      prmkit label Qwen/Qwen2.5-7B-Instruct problems.jsonl soft.jsonl --labels soft --budget 10000000
      --base-url http://localhost:8000/v1 --generator server=vllm --generator tokenizer=Qwen/Qwen2.5-7B-Instruct

    Then train on them:
      prmkit fit steps.jsonl
    """
    log = out.with_name(f"{out.name}.log") if log is None else log
    interrupted = f"interrupted: what was generated is kept in {log}, type the same to go on"
    flags = flags_of(context, **_OTHERS)
    with in_words(flags, interrupted):
        from collections import Counter

        from prmkit.data import write
        from prmkit.data.formats.writing import check_writable
        from prmkit.decoding import label_by_rollouts
        from prmkit.utils.files import check_path

        check_writable(to)
        check_path(out)
        if out.exists() and not overwrite:
            raise ValueError(f"{out} is there already: pass --overwrite, or choose another name")
        counts: Counter[str] = Counter()
        fields = {problem_field: "problem", answer_field: "answer"}
        problems = list(islice(_problems(source, fields, cast("Literal['raise', 'skip']", on_error), counts), limit))
        for reason, n in counts.items():
            say(f"note: {n} lines of {source} are left out, {reason}", err=True)
        try:
            data = label_by_rollouts(
                _generator(model, base_url, options_of(generator_option, "--generator")),
                _verifier(verifier),
                problems,
                n_solutions,
                n_completions,
                labels=labels,  # type: ignore[arg-type]
                search=search,  # type: ignore[arg-type]
                max_tokens=max_tokens,
                temperature=temperature,
                budget=budget,
                n_open=n_open,
                log=log,
                random_state=random_state,
            )
        except RuntimeError as error:  # nothing could be labelled, and the error says why
            fail(in_flags(" ".join(str(error).split()), flags))
        report = write(data, out, to, overwrite=overwrite)
        for line in (*data.description.splitlines(), *str(report).splitlines()):
            say(line)


def _problems(
    source: str, fields: dict[str, str], on_error: Literal["raise", "skip"], counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Yield the problems of a file, whose fields get the names that verifiers know."""
    from prmkit.data.jsonlines import iter_json_lines

    for number, record in iter_json_lines(source, on_error=on_error, counts=counts):
        missing = "problem"
        if isinstance(record, dict):
            renamed = {name: value for name, value in record.items() if name not in ("problem", "answer", *fields)}
            renamed |= {known: record[name] for name, known in fields.items() if name in record}
            if isinstance(renamed.get("problem"), str):
                yield renamed
                continue
            missing = next(name for name, known in fields.items() if known == "problem")
        if on_error == "raise":
            told = f"fields {', '.join(record)}" if isinstance(record, dict) else type(record).__name__
            raise ValueError(
                f"{source}, line {number}: {told}, expected an object with the text {missing}. Name its field by "
                "--problem FIELD, or pass on_error='skip' to leave such lines out"
            )
        counts[f"without the text {missing}"] += 1


def _generator(model: str, base_url: str | None, options: dict[str, Any]) -> TextGenerator:
    """Return the generator that runs here, or the one that asks a server."""
    try:
        if base_url is None:
            from prmkit.decoding import TransformersGenerator

            return TransformersGenerator(model, **options)
        from prmkit.decoding import OpenAIGenerator

        return OpenAIGenerator(model, base_url, **options)
    except TypeError as error:
        raise ValueError(f"--generator: {error}") from None


def _verifier(name: str) -> Verifier:
    """Return the verifier of this name. Those that could hang bring their own limit of time."""
    from prmkit.decoding import AnswerVerifier, UnitTestVerifier

    if name == "tests":
        return UnitTestVerifier()
    if name not in ("math", "exact", "numeric", "choice"):
        raise ValueError(f"--verifier is {name!r}, expected math, exact, numeric, choice or tests")
    return AnswerVerifier(how=name)  # type: ignore[arg-type]
