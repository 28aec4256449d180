"""The word problems that the generator draws from: texts, quantities and the work that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

Number = int | Fraction

# Words for the slots of the texts. The nouns are regular: "{fruit}s" is the plural.
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
    """One line of work, such as ``"count * price"``. Operands are quantities, earlier results or whole numbers."""

    formula: str
    name: str
    unit: str = ""


@dataclass(frozen=True)
class WordProblem:
    """A kind of problem: its texts, its quantities and its work. The last result is the answer."""

    texts: tuple[str, ...]
    givens: Mapping[str, Quantity]
    work: Mapping[str, Operation]


# A problem has its texts ("* …"), then its quantities ("key: name | values | unit"), then its work ("key = formula:
# name | unit"). " ; " stands between two entries of a line.
_PROBLEMS = """
* {name} buys {n} {fruit}s for {p} dollars each and {m} {thing}s for {q} dollars each. How much does {name} pay?
* One {fruit} costs {p} dollars and one {thing} costs {q} dollars. What is the price of {n} {fruit}s and {m} {thing}s
  together?
n: the number of {fruit}s | 3 to 15 ; p: the price of one {fruit} | 2 to 14.5 by 0.5 | dollars
m: the number of {thing}s | 3 to 15 ; q: the price of one {thing} | 2 to 14.5 by 0.5 | dollars
a = n * p: the cost of the {fruit}s | dollars ; b = m * q: the cost of the {thing}s | dollars
total = a + b: the total cost | dollars

* {name} buys {n} {thing}s at {p} dollars each and pays with {note} dollars. How much change does {name} get?
* A {thing} costs {p} dollars. {name} has {note} dollars and buys {n} of them. How much money is left?
n: the number of {thing}s | 3 to 15 ; p: the price of one {thing} | 2 to 14.5 by 0.5 | dollars
note: the money that {name} has | 20, 50, 100, 150, 200 | dollars
cost = n * p: the cost of the {thing}s | dollars ; change = note - cost: the money left over | dollars

* A {vehicle} travels {h} hours at {v} miles per hour and then {k} hours at {w} miles per hour. How far does it go?
* {name} takes a {vehicle}. For {h} hours it moves at {v} miles per hour, for another {k} hours at {w} miles per hour.
  What is the total distance?
h: the time of the first part | 2 to 9 | hours ; v: the speed in the first part | 20 to 89 | miles per hour
k: the time of the second part | 2 to 9 | hours ; w: the speed in the second part | 20 to 89 | miles per hour
a = h * v: the distance in the first part | miles ; b = k * w: the distance in the second part | miles
total = a + b: the total distance | miles

* {name} cycles {d} miles in {h} hours before lunch and {e} miles in {k} hours after it. What is the average speed?
* On one day {name} rows {d} miles in {h} hours, on the next {e} miles in {k} hours. Find the average speed over both
  days.
d: the first distance | 12 to 59 | miles ; h: the first time | 2 to 9 | hours
e: the second distance | 12 to 59 | miles ; k: the second time | 2 to 9 | hours
miles = d + e: the whole distance | miles ; hours = h + k: the whole time | hours
speed = miles / hours: the average speed | miles per hour

* {name} has {n} boxes with {k} {fruit}s each. {name} gives {g} {fruit}s to {friend} and shares the rest equally among
  {c} children. How many does each child get?
* There are {n} bags of {k} {fruit}s. After {friend} takes {g} {fruit}s, {c} children share the others equally. How
  many {fruit}s are there for each child?
n: the number of packs | 3 to 15 ; k: the number of {fruit}s in a pack | 3 to 15
g: the number that {friend} takes | 12 to 59 ; c: the number of children | 2 to 9
all = n * k: the number of {fruit}s at first ; rest = all - g: the number of {fruit}s that remain
share = rest / c: the share of each child

* {name} is {a} years old. {friend} is {k} times as old. How old will {friend} be in {t} years?
* {friend} is {k} times as old as {name}, who is {a}. What will be the age of {friend} {t} years from now?
a: the age of {name} | 4 to 24 | years ; k: the ratio of the ages | 2 to 4 ; t: the time to wait | 2 to 9 | years
now = a * k: the age of {friend} today | years ; then = now + t: the age of {friend} at that time | years

* A machine makes {r} {part}s per hour and runs {h} hours a day. In {d} days, {bad} {part}s are faulty. How many good
  ones are there?
* {name} watches a machine that makes {r} {part}s an hour, {h} hours every day. After {d} days {bad} faulty {part}s are
  thrown away. How many {part}s are left?
r: the number of {part}s per hour | 12 to 59 ; h: the daily running time | 2 to 9 | hours
d: the number of days | 2 to 9 ; bad: the number of faulty {part}s | 12 to 59
day = r * h: the number of {part}s per day ; all = day * d: the number of {part}s made
good = all - bad: the number of good {part}s

* A {garment} costs {p} dollars. In a sale the price falls by {s} percent. What do {n} of these {garment}s cost in the
  sale?
* A shop takes {s} percent off the price of a {garment}, which was {p} dollars. How much does {name} pay for {n}
  {garment}s?
p: the old price | 20 to 200 by 10 | dollars ; s: the discount rate | 5 to 55 by 5 | percent
n: the number of {garment}s | 2 to 9
one = p / 100: one percent of the price | dollars ; off = one * s: the discount | dollars
new = p - off: the new price | dollars ; cost = new * n: the cost of all {garment}s | dollars

* A {place} is {l} metres long and {w} metres wide. A fence around it costs {c} dollars per metre. What does the fence
  cost?
* {name} wants a fence around a {place} of {l} by {w} metres. One metre costs {c} dollars. Find the price of the fence.
l: the length | 15 to 59 | metres ; w: the width | 4 to 39 | metres ; c: the price of one metre | 3 to 15 | dollars
half = l + w: half of the perimeter | metres ; around = half * 2: the perimeter | metres
cost = around * c: the price of the fence | dollars

* {name} mixes {a} kilograms of {drink} at {p} dollars per kilogram with {b} kilograms at {q} dollars per kilogram.
  What is one kilogram of the mixture worth?
* A shop blends two sorts of {drink}: {a} kilograms at {p} dollars each and {b} kilograms at {q} dollars each. Find the
  price per kilogram of the blend.
a: the weight of the first sort | 2 to 9 | kilograms ; p: the price of the first sort | 4 to 29 | dollars per kilogram
b: the weight of the second sort | 2 to 9 | kilograms
q: the price of the second sort | 4 to 29 | dollars per kilogram
first = a * p: the value of the first sort | dollars ; second = b * q: the value of the second sort | dollars
value = first + second: the value of the mixture | dollars ; weight = a + b: the weight of the mixture | kilograms
price = value / weight: the price of the mixture | dollars per kilogram

* {name} has {s} dollars and saves {w} dollars a week for {n} weeks. Then {name} spends {x} dollars. How much money is
  left?
* Every week for {n} weeks {name} puts {w} dollars into a box that held {s} dollars, and at the end takes out {x}
  dollars. How much is in the box?
s: the money at the start | 20 to 200 by 10 | dollars ; w: the money saved per week | 3 to 15 | dollars
n: the number of weeks | 3 to 15 ; x: the money spent | 12 to 59 | dollars
saved = w * n: the money saved | dollars ; total = s + saved: the money before spending | dollars
left = total - x: the money left | dollars

* A tank holds {s} litres. Each minute {a} litres flow in and {b} litres leak out. How much is in it after {m} minutes?
* {name} fills a tank that already holds {s} litres. Every minute it gains {a} litres and loses {b} litres. What does
  it hold {m} minutes later?
s: the volume at the start | 20 to 200 by 10 | litres ; a: the inflow | 12 to 39 | litres per minute
b: the outflow | 2 to 10 | litres per minute ; m: the time | 3 to 15 | minutes
net = a - b: the net flow | litres per minute ; gain = net * m: the gain in volume | litres
end = s + gain: the volume at the end | litres
"""


def _read_problem(text: str) -> WordProblem:
    texts: list[str] = []
    givens: dict[str, Quantity] = {}
    work: dict[str, Operation] = {}
    for entry in text.replace(" ; ", "\n").splitlines():
        head, *rest = entry.split(" | ")
        key, _, name = head.partition(": ")
        if entry.startswith("* "):
            texts.append(entry[2:])
        elif entry.startswith("  "):
            texts[-1] += entry[1:]
        elif " = " in key:
            key, formula = key.split(" = ")
            work[key] = Operation(formula, name, *rest)
        else:
            givens[key] = Quantity(name, _read_values(rest[0]), *rest[1:])
    return WordProblem(tuple(texts), givens, work)


def _read_values(text: str) -> tuple[Number, ...]:
    """Return the values of "3 to 15", "2 to 14.5 by 0.5" or "20, 50, 100"."""
    if " to " not in text:
        return tuple(int(value) for value in text.split(", "))
    ends, _, step = text.partition(" by ")
    first, last = map(Fraction, ends.split(" to "))
    by = Fraction(step or 1)
    values = (first + i * by for i in range(int((last - first) / by) + 1))
    return tuple(int(value) if value == int(value) else value for value in values)


WORD_PROBLEMS = tuple(_read_problem(text) for text in _PROBLEMS.strip().split("\n\n"))
