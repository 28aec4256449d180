"""The word problems that the offline generator draws from: texts, quantities and the work they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

Number = int | Fraction

# Slots of the texts; the nouns are regular, so that "{fruit}s" is the plural.
WORDS: Mapping[str, tuple[str, ...]] = {
    "name": ("Anna", "Ben", "Chloe", "David", "Elif", "Farid", "Grace", "Hugo", "Ines", "Kofi"),
    "friend": ("Maria", "Nils", "Olga", "Pedro", "Rosa", "Samir", "Tara", "Umar", "Wei", "Yara"),
    "fruit": ("apple", "orange", "banana", "melon", "lemon", "plum"),
    "thing": ("pencil", "notebook", "folder", "marker", "ruler", "sticker"),
    "garment": ("jacket", "shirt", "sweater", "coat", "hat", "scarf"),
    "part": ("bolt", "screw", "bottle", "candle", "toy", "lamp"),
    "vehicle": ("car", "bus", "train", "van", "truck"),
    "place": ("garden", "yard", "field", "playground", "terrace"),
    "drink": ("coffee", "tea", "cocoa"),
}


class Quantity(NamedTuple):
    """A number that the problem states: its name, the values it may take, its unit."""

    name: str
    values: Sequence[Number]
    unit: str = ""


class Operation(NamedTuple):
    """One line of work, such as ``"count * price"``: operands are keys or whole numbers."""

    formula: str
    name: str
    unit: str = ""


@dataclass(frozen=True)
class WordProblem:
    """A kind of problem: several texts, its quantities, and the work; the last result is the answer."""

    texts: tuple[str, ...]
    givens: Mapping[str, Quantity]
    work: Mapping[str, Operation]


_SMALL, _COUNT, _MANY = range(2, 10), range(3, 16), range(12, 60)
_PRICES = tuple(Fraction(i, 2) for i in range(4, 30))
_ROUND = range(20, 201, 10)

WORD_PROBLEMS: tuple[WordProblem, ...] = (
    WordProblem(
        (
            "{name} buys {n} {fruit}s for {p} dollars each and {m} {thing}s for {q} dollars each. How much "
            "does {name} pay?",
            "One {fruit} costs {p} dollars and one {thing} costs {q} dollars. What is the price of {n} "
            "{fruit}s and {m} {thing}s together?",
        ),
        {
            "n": Quantity("the number of {fruit}s", _COUNT),
            "p": Quantity("the price of one {fruit}", _PRICES, "dollars"),
            "m": Quantity("the number of {thing}s", _COUNT),
            "q": Quantity("the price of one {thing}", _PRICES, "dollars"),
        },
        {
            "a": Operation("n * p", "the cost of the {fruit}s", "dollars"),
            "b": Operation("m * q", "the cost of the {thing}s", "dollars"),
            "total": Operation("a + b", "the total cost", "dollars"),
        },
    ),
    WordProblem(
        (
            "{name} buys {n} {thing}s at {p} dollars each and pays with {note} dollars. How much change "
            "does {name} get?",
            "A {thing} costs {p} dollars. {name} has {note} dollars and buys {n} of them. How much money is "
            "left?",
        ),
        {
            "n": Quantity("the number of {thing}s", _COUNT),
            "p": Quantity("the price of one {thing}", _PRICES, "dollars"),
            "note": Quantity("the money that {name} has", (20, 50, 100, 150, 200), "dollars"),
        },
        {
            "cost": Operation("n * p", "the cost of the {thing}s", "dollars"),
            "change": Operation("note - cost", "the money left over", "dollars"),
        },
    ),
    WordProblem(
        (
            "A {vehicle} travels {h} hours at {v} miles per hour and then {k} hours at {w} miles per hour. "
            "How far does it go?",
            "{name} takes a {vehicle}. For {h} hours it moves at {v} miles per hour, for another {k} hours "
            "at {w} miles per hour. What is the total distance?",
        ),
        {
            "h": Quantity("the time of the first part", _SMALL, "hours"),
            "v": Quantity("the speed in the first part", range(20, 90), "miles per hour"),
            "k": Quantity("the time of the second part", _SMALL, "hours"),
            "w": Quantity("the speed in the second part", range(20, 90), "miles per hour"),
        },
        {
            "a": Operation("h * v", "the distance in the first part", "miles"),
            "b": Operation("k * w", "the distance in the second part", "miles"),
            "total": Operation("a + b", "the total distance", "miles"),
        },
    ),
    WordProblem(
        (
            "{name} cycles {d} miles in {h} hours before lunch and {e} miles in {k} hours after it. What is "
            "the average speed?",
            "On one day {name} rows {d} miles in {h} hours, on the next {e} miles in {k} hours. Find the "
            "average speed over both days.",
        ),
        {
            "d": Quantity("the first distance", _MANY, "miles"),
            "h": Quantity("the first time", _SMALL, "hours"),
            "e": Quantity("the second distance", _MANY, "miles"),
            "k": Quantity("the second time", _SMALL, "hours"),
        },
        {
            "miles": Operation("d + e", "the whole distance", "miles"),
            "hours": Operation("h + k", "the whole time", "hours"),
            "speed": Operation("miles / hours", "the average speed", "miles per hour"),
        },
    ),
    WordProblem(
        (
            "{name} has {n} boxes with {k} {fruit}s each. {name} gives {g} {fruit}s to {friend} and shares "
            "the rest equally among {c} children. How many does each child get?",
            "There are {n} bags of {k} {fruit}s. After {friend} takes {g} {fruit}s, {c} children share the "
            "others equally. How many {fruit}s are there for each child?",
        ),
        {
            "n": Quantity("the number of packs", _COUNT),
            "k": Quantity("the number of {fruit}s in a pack", _COUNT),
            "g": Quantity("the number that {friend} takes", _MANY),
            "c": Quantity("the number of children", _SMALL),
        },
        {
            "all": Operation("n * k", "the number of {fruit}s at first"),
            "rest": Operation("all - g", "the number of {fruit}s that remain"),
            "share": Operation("rest / c", "the share of each child"),
        },
    ),
    WordProblem(
        (
            "{name} is {a} years old. {friend} is {k} times as old. How old will {friend} be in {t} years?",
            "{friend} is {k} times as old as {name}, who is {a}. What will be the age of {friend} {t} years "
            "from now?",
        ),
        {
            "a": Quantity("the age of {name}", range(4, 25), "years"),
            "k": Quantity("the ratio of the ages", range(2, 5)),
            "t": Quantity("the time to wait", _SMALL, "years"),
        },
        {
            "now": Operation("a * k", "the age of {friend} today", "years"),
            "then": Operation("now + t", "the age of {friend} at that time", "years"),
        },
    ),
    WordProblem(
        (
            "A machine makes {r} {part}s per hour and runs {h} hours a day. In {d} days, {bad} {part}s are "
            "faulty. How many good ones are there?",
            "{name} watches a machine that makes {r} {part}s an hour, {h} hours every day. After {d} days "
            "{bad} faulty {part}s are thrown away. How many {part}s are left?",
        ),
        {
            "r": Quantity("the number of {part}s per hour", _MANY),
            "h": Quantity("the daily running time", _SMALL, "hours"),
            "d": Quantity("the number of days", _SMALL),
            "bad": Quantity("the number of faulty {part}s", _MANY),
        },
        {
            "day": Operation("r * h", "the number of {part}s per day"),
            "all": Operation("day * d", "the number of {part}s made"),
            "good": Operation("all - bad", "the number of good {part}s"),
        },
    ),
    WordProblem(
        (
            "A {garment} costs {p} dollars. In a sale the price falls by {s} percent. What do {n} of these "
            "{garment}s cost in the sale?",
            "A shop takes {s} percent off the price of a {garment}, which was {p} dollars. How much does "
            "{name} pay for {n} {garment}s?",
        ),
        {
            "p": Quantity("the old price", _ROUND, "dollars"),
            "s": Quantity("the discount rate", range(5, 60, 5), "percent"),
            "n": Quantity("the number of {garment}s", _SMALL),
        },
        {
            "one": Operation("p / 100", "one percent of the price", "dollars"),
            "off": Operation("one * s", "the discount", "dollars"),
            "new": Operation("p - off", "the new price", "dollars"),
            "cost": Operation("new * n", "the cost of all {garment}s", "dollars"),
        },
    ),
    WordProblem(
        (
            "A {place} is {l} metres long and {w} metres wide. A fence around it costs {c} dollars per "
            "metre. What does the fence cost?",
            "{name} wants a fence around a {place} of {l} by {w} metres. One metre costs {c} dollars. Find "
            "the price of the fence.",
        ),
        {
            "l": Quantity("the length", range(15, 60), "metres"),
            "w": Quantity("the width", range(4, 40), "metres"),
            "c": Quantity("the price of one metre", _COUNT, "dollars"),
        },
        {
            "half": Operation("l + w", "half of the perimeter", "metres"),
            "around": Operation("half * 2", "the perimeter", "metres"),
            "cost": Operation("around * c", "the price of the fence", "dollars"),
        },
    ),
    WordProblem(
        (
            "{name} mixes {a} kilograms of {drink} at {p} dollars per kilogram with {b} kilograms at {q} "
            "dollars per kilogram. What is one kilogram of the mixture worth?",
            "A shop blends two sorts of {drink}: {a} kilograms at {p} dollars each and {b} kilograms at {q} "
            "dollars each. Find the price per kilogram of the blend.",
        ),
        {
            "a": Quantity("the weight of the first sort", _SMALL, "kilograms"),
            "p": Quantity("the price of the first sort", range(4, 30), "dollars per kilogram"),
            "b": Quantity("the weight of the second sort", _SMALL, "kilograms"),
            "q": Quantity("the price of the second sort", range(4, 30), "dollars per kilogram"),
        },
        {
            "first": Operation("a * p", "the value of the first sort", "dollars"),
            "second": Operation("b * q", "the value of the second sort", "dollars"),
            "value": Operation("first + second", "the value of the mixture", "dollars"),
            "weight": Operation("a + b", "the weight of the mixture", "kilograms"),
            "price": Operation("value / weight", "the price of the mixture", "dollars per kilogram"),
        },
    ),
    WordProblem(
        (
            "{name} has {s} dollars and saves {w} dollars a week for {n} weeks. Then {name} spends {x} "
            "dollars. How much money is left?",
            "Every week for {n} weeks {name} puts {w} dollars into a box that held {s} dollars, and at the "
            "end takes out {x} dollars. How much is in the box?",
        ),
        {
            "s": Quantity("the money at the start", _ROUND, "dollars"),
            "w": Quantity("the money saved per week", _COUNT, "dollars"),
            "n": Quantity("the number of weeks", _COUNT),
            "x": Quantity("the money spent", _MANY, "dollars"),
        },
        {
            "saved": Operation("w * n", "the money saved", "dollars"),
            "total": Operation("s + saved", "the money before spending", "dollars"),
            "left": Operation("total - x", "the money left", "dollars"),
        },
    ),
    WordProblem(
        (
            "A tank holds {s} litres. Each minute {a} litres flow in and {b} litres leak out. How much is "
            "in it after {m} minutes?",
            "{name} fills a tank that already holds {s} litres. Every minute it gains {a} litres and loses "
            "{b} litres. What does it hold {m} minutes later?",
        ),
        {
            "s": Quantity("the volume at the start", _ROUND, "litres"),
            "a": Quantity("the inflow", range(12, 40), "litres per minute"),
            "b": Quantity("the outflow", range(2, 11), "litres per minute"),
            "m": Quantity("the time", _COUNT, "minutes"),
        },
        {
            "net": Operation("a - b", "the net flow", "litres per minute"),
            "gain": Operation("net * m", "the gain in volume", "litres"),
            "end": Operation("s + gain", "the volume at the end", "litres"),
        },
    ),
)
