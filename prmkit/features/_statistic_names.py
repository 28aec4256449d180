"""What each statistic of a step is, in the order of the columns, and the words that some of them count."""

from __future__ import annotations

MARKERS: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "conclusion": "therefore thus hence so finally conclude consequently overall",
        "answer": "answer answers boxed solution choice option final",
        "hedge": (
            "wait however but actually hmm although though maybe perhaps might instead unless oops mistakenly"
        ),
        "assumption": "assume assuming assumed suppose supposing let if imagine consider hypothetically say",
        "agreement": "right correct correctly yes ok okay good indeed exactly sure great",
        "negation": "not no cannot never none neither nor isn doesn don can won incorrect wrong false impossible",
        "certainty": "clearly obviously always must certainly definitely only all every any undoubtedly naturally",
        "reason": "because since as due given means implies follows",
        "review": (
            "check verify confirm recall recheck reconfirm again already previously earlier reiterate "
            "repeat notice remember"
        ),
        "plan": "need want try first next start begin now will should find compute calculate determine",
    }.items()
}
"""Words that are counted, by what they signal."""

OPENINGS = ("conclusion", "hedge", "agreement", "plan")

STATISTICS: dict[str, str] = {
    # position
    "index": "0-based index of the step",
    "prefix_words": "log(1 + words of the steps before)",
    "problem_words": "log(1 + words of the problem)",
    "problem_numbers": "distinct numbers in the problem",
    "problem_options": "1 if the problem lists answer options",
    # length and make-up
    "words": "log(1 + words of the step)",
    "characters": "log(1 + characters of the step)",
    "words_to_mean": "log ratio of its words to the mean of the steps before",
    "words_to_previous": "log ratio of its words to those of the step before",
    "words_to_problem": "log ratio of its words to those of the problem",
    "word_length": "mean length of its words",
    "lines": "line breaks in the step",
    "digit_share": "share of digits among its characters",
    "symbol_share": "share of characters that are neither letters, digits nor spaces",
    "capital_share": "share of capital letters",
    "latex_commands": "LaTeX commands in the step",
    "latex_to_mean": "LaTeX commands minus their mean over the steps before",
    "digits_to_mean": "digit_share minus its mean over the steps before",
    "symbols_to_mean": "symbol_share minus its mean over the steps before",
    "question_marks": "question marks in the step",
    # numbers
    "numbers": "numbers in the step",
    "numbers_new": "distinct numbers that occur neither in the problem nor before",
    "numbers_new_share": "share of its distinct numbers that are new",
    "numbers_problem_share": "share of its distinct numbers that the problem holds",
    "numbers_underived": "new numbers that neither one operation on known numbers nor an equation of the step gives",
    "numbers_used": "share of the problem's numbers used up to and including this step",
    "last_number_seen": "1 if its last number occurred before, 0 if not, -1 without a number",
    "last_number_problem": "1 if its last number occurs in the problem, 0 if not, -1 without a number",
    "largest_number": "log(1 + largest number), 0 without one",
    "largest_to_known": "log ratio of its largest number to the largest known one",
    "decimals": "numbers that are not whole",
    "first_number_recent": "1 if its first number was the last one of the step before",
    # words
    "words_in_problem": "share of its distinct longer words that the problem holds",
    "words_in_prefix": "share of its distinct longer words that the steps before hold",
    "words_new": "share of its distinct longer words that occur neither in the problem nor before",
    "words_new_to_mean": "words_new minus its mean over the steps before",
    "problem_covered": "share of the problem's longer words that the step repeats",
    "symbols_new": "distinct one-letter words that are new",
    # repetition
    "triples_in_problem": "share of its word triples that occur in the problem",
    "triples_in_prefix": "share of its word triples that occurred before",
    "previous_overlap": "Jaccard overlap of its words with those of the step before",
    "repeats": "1 if an earlier step is the same but for case, spaces and brackets",
    "same_opening": "earlier steps that begin with the same two words",
    # equations
    "equalities": "equal signs read",
    "equations_right": "comparisons of numbers that hold",
    "equations_wrong": "comparisons of numbers that fail",
    "equations_error": "log(1 + 100 * largest relative error)",
    "equations_bound_right": "comparisons that hold with the symbol values stated before",
    "equations_bound_wrong": "comparisons that fail with the symbol values stated before",
    "equations_identities": "comparisons in unknown symbols that hold as identities",
    "equations_differing": "comparisons in unknown symbols that do not",
    "equations_differing_later": "the same, beyond the first sign of a = b = c",
    "equations_unread": "comparisons with a side that has no value",
    "symbols_rebound": "symbols given another value than before",
    "solutions_right": "values of a symbol that satisfy an equation stated before",
    "solutions_wrong": "values of a symbol that violate an equation stated before",
    "results_seen": "equation results that were known numbers",
    "wrong_before": "failed comparisons in the steps before",
    "right_before": "comparisons that held in the steps before",
    # state, as in "Alice: black, Bob: blue"
    "assignments": "pairs 'name: value' in the step",
    "assignments_changed": "of these, those with another value than before",
    "assignments_repeated": "values that two names of the step share",
    "options_named": "answer options named in the step",
    # wording
    **{f"marker_{name}": f"words of {name} in the step" for name in MARKERS},
    **{f"opens_{name}": f"1 if one of its first two words is of {name}" for name in OPENINGS},
    "hedges_before": "words of hedge in the steps before",
    "answers_before": "steps before with a word of answer",
}  # fmt: skip
