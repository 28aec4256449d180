"use strict";
(() => {
  const PER_PAGE = 50, PACKS_HELD = 64, DELAY = 150;
  const get = (id) => document.getElementById(id);
  const index = JSON.parse(get("index").textContent);
  const all = index.solutions, n = all.id.length;
  const OUTCOMES = {
    found: ["✓", "found exactly"], accepted: ["✓", "no error, accepted"], missed: ["✗", "missed"],
    alarm: ["!", "false alarm"], place: ["≠", "wrong position"], right: ["✓", "correct candidate"],
    wrong: ["✗", "wrong candidate"], unlabelled: ["?", "not labelled"],
    unscored: ["–", "not scored"],
  };
  const isCandidate = new Set(index.problems.flatMap((one) => one.members));
  const MISTAKES = ["missed", "alarm", "place"];
  let model = 0, shown = [], chosen = -1, page = 0, latest = 0;

  /* ---- data ---- */
  const held = new Map();
  async function unpack(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  function pack(number) {
    if (!held.has(number)) {
      const text = get("pack-" + number).textContent;
      const bytes = Uint8Array.from(atob(JSON.parse(text)), (c) => c.charCodeAt(0));
      held.set(number, unpack(bytes).then((plain) => JSON.parse(new TextDecoder().decode(plain))));
      if (held.size > PACKS_HELD) held.delete(held.keys().next().value);
    }
    return held.get(number);
  }
  async function texts(i) {
    const [problem, steps, ratings, risks, [answer, scores] = [null, {}]] = (await pack(Math.floor(i / index.perPack)))[i % index.perPack];
    return { problem, steps, ratings, risks, answer, scores };
  }
  function outcome(i, m) {
    const gold = all.gold[i], predicted = all.predicted[i][m];
    if (isCandidate.has(i)) return all.answer[i] ? "right" : "wrong";
    if (predicted === null) return "unscored";
    if (gold === null) return "unlabelled";
    if (gold === predicted) return gold < 0 ? "accepted" : "found";
    return gold < 0 ? "alarm" : predicted < 0 ? "missed" : "place";
  }
  const risk = (i) => all.highest[i][model];

  /* ---- drawing: text only ever enters as text ---- */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  }
  function rgb(value) {
    const part = Math.min(Math.max(value, 0), 1) * (index.scale.length - 1);
    const left = Math.min(Math.floor(part), index.scale.length - 2);
    const [a, b] = [index.scale[left], index.scale[left + 1]];
    return a.map((from, c) => Math.round(from + (b[c] - from) * (part - left))).join(",");
  }
  function colored(element, value) {
    if (value !== null) {
      element.style.setProperty("--risk", `rgb(${rgb(value)})`);
      element.style.setProperty("--tint", `rgba(${rgb(value)},${(0.08 + 0.22 * value).toFixed(2)})`);
    }
    return element;
  }
  const number = (value) => value === null || value === undefined ? "–" : value.toFixed(2);
  const badge = (key) => make("span", { class: "badge " + key }, OUTCOMES[key].join(" "));
  const place = (value) => value === null ? "unknown" : value < 0 ? "none" : "step " + value;
  function marked(text, wanted) {
    const parts = document.createDocumentFragment(), low = text.toLowerCase();
    let from = 0;
    /* Where lowering changes lengths, places no longer agree: show the text unmarked. */
    if (wanted && low.length === text.length) {
      for (let at; (at = low.indexOf(wanted, from)) >= 0; from = at + wanted.length) {
        parts.append(text.slice(from, at), make("mark", {}, text.slice(at, at + wanted.length)));
      }
    }
    parts.append(text.slice(from));
    return parts;
  }

  /* ---- filters ---- */
  const wantedText = () => get("search").value.trim().toLowerCase();
  function limit(id, otherwise) {
    const value = get(id).valueAsNumber;
    return Number.isNaN(value) ? otherwise : value;
  }
  async function filter(keep = false) {
    const mine = ++latest, wanted = wantedText();
    const [benchmark, type, result] = ["benchmark", "error-type", "outcome"].map((id) => get(id).value);
    const from = limit("from", 0), to = limit("to", 1), unbound = from <= 0 && to >= 1;
    model = Number(get("model").value);
    let found = [];
    for (let i = 0; i < n; i++) {
      if (benchmark !== "" && all.benchmark[i] !== Number(benchmark)) continue;
      if (type !== "" && (type === "none" ? all.errorType[i] !== null : all.errorType[i] !== Number(type))) continue;
      const is = outcome(i, model);
      if (result === "mistake" ? !MISTAKES.includes(is) : result !== "" && result !== is) continue;
      if (!unbound && (risk(i) === null || risk(i) < from || risk(i) > to)) continue;
      found.push(i);
    }
    if (wanted) {
      get("status").textContent = "Searching…";
      const hits = [];
      for (const i of found) {
        let hit = all.id[i].toLowerCase().includes(wanted);
        if (!hit) {
          const { problem, steps } = await texts(i);
          if (mine !== latest) return;
          hit = problem.toLowerCase().includes(wanted) || steps.some((step) => step.toLowerCase().includes(wanted));
        }
        if (hit) hits.push(i);
      }
      if (mine !== latest) return;
      found = hits;
    }
    const order = get("order").value, sign = order === "high" ? -1 : 1;
    if (order !== "file") {
      found.sort((a, b) => (risk(a) === null) - (risk(b) === null) || sign * (risk(a) - risk(b)) || a - b);
    }
    shown = found;
    say();
    choose(keep && shown.includes(chosen) ? chosen : shown.length ? shown[0] : -1);
  }
  function say() {
    const counts = {};
    for (const i of shown) counts[outcome(i, model)] = (counts[outcome(i, model)] || 0) + 1;
    const parts = Object.keys(OUTCOMES).filter((key) => counts[key])
      .map((key) => `${OUTCOMES[key][1]} ${counts[key].toLocaleString("en")}`);
    const head = `${shown.length.toLocaleString("en")} of ${n.toLocaleString("en")} solutions`;
    get("status").textContent = parts.length ? `${head}: ${parts.join(" · ")}` : head;
  }

  /* ---- list ---- */
  function choose(i) {
    chosen = i;
    page = Math.max(0, Math.floor(shown.indexOf(i) / PER_PAGE));
    list();
    solution();
    const address = i < 0 ? "#browser" : "#solution=" + i;
    if (i >= 0 && location.hash !== address && touched) history.replaceState(null, "", address);
  }
  let touched = false;
  function list() {
    const first = page * PER_PAGE, rows = shown.slice(first, first + PER_PAGE), box = get("list");
    box.replaceChildren(...rows.map((i, row) => {
      const value = risk(i);
      const option = make("li", {
        id: "row-" + i, role: "option", "aria-selected": String(i === chosen),
        "aria-setsize": shown.length, "aria-posinset": first + row + 1,
      },
        colored(make("span", { class: "chip", title: "highest risk" }, number(value)), value),
        make("span", { class: "row" },
          make("span", { class: "row-head" }, make("b", {}, all.id[i] || "(no id)"), badge(outcome(i, model))),
          make("span", { class: "row-text" }, index.previews[all.preview[i]] || index.benchmarks[all.benchmark[i]])));
      option.addEventListener("click", () => { touched = true; choose(i); });
      return option;
    }));
    if (chosen >= 0) box.setAttribute("aria-activedescendant", "row-" + chosen);
    else box.removeAttribute("aria-activedescendant");
    const option = get("row-" + chosen);
    if (option) {
      const above = option.offsetTop, below = above + option.offsetHeight;
      if (above < box.scrollTop) box.scrollTop = above;
      else if (below > box.scrollTop + box.clientHeight) box.scrollTop = below - box.clientHeight;
    }
    const last = Math.min(first + PER_PAGE, shown.length);
    get("page-now").textContent = shown.length ? `${(first + 1).toLocaleString("en")}–${last.toLocaleString("en")} of ${shown.length.toLocaleString("en")}` : "none";
    get("page-back").disabled = page === 0;
    get("page-on").disabled = last >= shown.length;
  }
  function move(by) {
    if (!shown.length) return;
    const at = shown.indexOf(chosen);
    go(Math.min(Math.max(at + by, 0), shown.length - 1));
  }
  function turn(by) {
    const at = (page + by) * PER_PAGE;
    if (at >= 0 && at < shown.length) go(at);
  }
  function go(at) {
    touched = true;
    choose(shown[at]);
    const box = get("list").getBoundingClientRect();
    if (box.top < 0 || box.top > innerHeight * 0.7) get("status").scrollIntoView({ block: "start" });
  }

  /* ---- one solution ---- */
  async function solution() {
    const i = chosen, target = get("solution");
    if (i < 0) {
      target.replaceChildren(make("p", { class: "note" }, n ? "No solution fits these filters." : "No solutions."));
      return;
    }
    const { problem, steps, ratings, risks } = await texts(i);
    if (i !== chosen) return;
    const wanted = wantedText(), gold = all.gold[i], predicted = all.predicted[i];
    const facts = [
      ["data set", index.benchmarks[all.benchmark[i]]],
      ["error type", all.errorType[i] === null ? null : index.errorTypes[all.errorType[i]]],
      ["first error", place(gold)],
      ["answer", all.answer[i] === null ? null : all.answer[i] ? "correct" : "wrong"],
    ].filter(([, value]) => value !== null);
    const position = `${(shown.indexOf(i) + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
    target.replaceChildren(
      make("h3", {}, make("bdi", {}, all.id[i] || "(no id)"), " ", badge(outcome(i, model)),
        make("span", { class: "of" }, mover(-1, "‹", "Previous solution", "k"), position, mover(1, "›", "Next solution", "j"))),
      make("dl", { class: "facts" },
        ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
      strip(i, steps, risks),
      make("div", { class: "problem" }, make("h4", {}, "Problem"),
        make("p", { class: "text" }, marked(problem || "(none)", wanted))),
      make("h4", {}, `Steps, counted from 0; number and colour: P(wrong)${risks[model] ? " by " + index.models[model] : " unknown"}`),
      make("ol", { class: "steps", start: 0 }, ...steps.map((text, t) => step(t, text, wanted, ratings, risks, gold, predicted))));
    target.scrollTop = 0;
  }
  function mover(by, sign, label, key) {
    const button = make("button", { type: "button", "aria-label": label, "aria-keyshortcuts": key, title: `${label} (${key})` }, sign);
    const at = shown.indexOf(chosen) + by;
    button.disabled = at < 0 || at >= shown.length;
    button.addEventListener("click", () => { move(by); get("solution").focus({ preventScroll: true }); });
    return button;
  }
  /* All models and all steps at a glance; also the tooltips' numbers for whoever has no pointer. */
  function strip(i, steps, risks) {
    const gold = all.gold[i];
    const head = make("tr", {}, make("th", { scope: "col" }, "model"), make("th", { scope: "col" }, "predicted"),
      make("th", { scope: "col" }, "verdict"),
      ...steps.map((_, t) => make("th", { scope: "col", class: t === gold ? "gold-cell" : "" }, t === gold ? `⚑${t}` : String(t))));
    const rows = index.models.map((name, m) => make("tr", { class: m === model ? "current" : "" },
      make("th", { scope: "row" }, name), make("td", {}, place(all.predicted[i][m])), make("td", {}, badge(outcome(i, m))),
      ...steps.map((_, t) => {
        const value = risks[m] ? risks[m][t] : null, hit = all.predicted[i][m] === t;
        return colored(make("td", { class: "cell" + (hit ? " hit" : "") }, number(value).replace(/^0/, "")), value);
      })));
    return make("div", { class: "frame strip", role: "region", tabindex: 0, "aria-label": "Risks of all steps" },
      make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  }
  function step(t, text, wanted, ratings, risks, gold, predicted) {
    const value = risks[model] ? risks[model][t] : null, rating = ratings[t];
    const said = index.models.map((name, m) => predicted[m] === t ? name : null).filter((name) => name !== null);
    const marks = [];
    if (t === gold) marks.push(make("span", { class: "flag gold" }, "⚑ first error (label)"));
    if (said.length) marks.push(make("span", { class: "flag said" }, `◆ predicted first error: ${said.join(", ")}`));
    if (rating !== null && rating !== undefined) {
      marks.push(make("span", { class: "flag" }, `rating ${rating > 0 ? "+" : ""}${String(rating).replace("-", "−")}`));
    }
    const bar = colored(make("span", { class: "bar-frame", "aria-hidden": "true" }, make("span", { class: "bar-part" })), value);
    bar.firstChild.style.setProperty("width", `${100 * (value || 0)}%`);
    const tip = make("span", { class: "tip", role: "tooltip", id: "tip-" + t }, make("b", {}, `step ${t}: P(wrong)`),
      ...index.models.map((name, m) => make("span", {}, `${name} ${risks[m] && risks[m][t] !== null ? risks[m][t].toFixed(3) : "–"}`)));
    const classes = "step" + (t === gold ? " is-gold" : "") + (predicted[model] === t ? " is-said" : "");
    return colored(make("li", { class: classes, tabindex: 0, "aria-describedby": "tip-" + t },
      make("span", { class: "step-number" }, String(t)),
      make("span", { class: "step-risk" }, number(value), bar),
      make("span", { class: "step-body" }, marks.length ? make("span", { class: "marks" }, ...marks) : null,
        make("span", { class: "text" }, text ? marked(text, wanted) : make("i", {}, "(empty step)"))),
      tip), value);
  }

  /* ---- controls ---- */
  function fill(id, options) {
    get(id).replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  }
  function used(column, names) {
    const counts = names.map(() => 0);
    for (const value of column) if (value !== null) counts[value]++;
    return names.map((name, value) => [String(value), `${name} (${counts[value].toLocaleString("en")})`])
      .filter((_, value) => counts[value]);
  }
  function help(open = get("help").hidden) {
    get("help").hidden = !open;
    get("help-button").setAttribute("aria-expanded", String(open));
  }
  function open() {
    const asked = /^#solution=(\d+)$/.exec(location.hash);
    if (asked && Number(asked[1]) < n) reach(Number(asked[1]));
  }
  function reach(i) {
    if (!shown.includes(i)) { get("filters").reset(); clearTimeout(wait); filter().then(() => reach(i)); return; }
    choose(i);
    get("browser").scrollIntoView();
  }
  fill("model", index.models.map((name, m) => [String(m), name]));
  get("model").parentElement.hidden = index.models.length < 2;
  fill("benchmark", [["", "all"], ...used(all.benchmark, index.benchmarks)]);
  const types = used(all.errorType, index.errorTypes);
  fill("error-type", [["", "all"], ...types, ...(types.length ? [["none", "none named"]] : [])]);
  get("error-type").parentElement.hidden = !types.length;
  const possible = Object.entries(OUTCOMES).filter(([key]) => isCandidate.size || !["right", "wrong"].includes(key));
  fill("outcome", [["", "all"], ["mistake", "any mistake"], ...possible.map(([key, said]) => [key, said[1]])]);
  let wait = 0, keeping = true;
  function later(keep) {
    touched = true;
    keeping = keeping && keep;
    clearTimeout(wait);
    wait = setTimeout(() => { const kept = keeping; keeping = true; filter(kept); }, DELAY);
  }
  /* Another model is asked about the same solution; other filters start at the top of their list. */
  get("filters").addEventListener("input", (event) => later(event.target.id === "model"));
  get("filters").addEventListener("reset", () => later(false));
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  get("help-button").addEventListener("click", () => help());
  get("page-back").addEventListener("click", () => turn(-1));
  get("page-on").addEventListener("click", () => turn(1));
  window.addEventListener("hashchange", open);

  const KEYS = { j: () => move(1), k: () => move(-1), n: () => turn(1), p: () => turn(-1), "?": () => help(),
    "/": () => { get("search").focus(); get("search").select(); } };
  const IN_LIST = { ArrowDown: () => move(1), ArrowUp: () => move(-1), PageDown: () => turn(1), PageUp: () => turn(-1),
    Home: () => shown.length && go(0), End: () => shown.length && go(shown.length - 1),
    Enter: () => get("solution").focus() };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = event.target, typing = at.matches("input, select, textarea");
    if (event.key === "Escape") { help(false); get("list").focus(); return; }
    if (typing) {
      if (at.id === "search" && event.key === "Enter") { event.preventDefault(); get("list").focus(); }
      return;
    }
    const act = KEYS[event.key] || (at.id === "list" ? IN_LIST[event.key] : undefined);
    if (act) { event.preventDefault(); act(); }
  });
  /* ---- best of N, by problem ---- */
  const CHOICES = {
    right: ["✓", "chosen right"], missed: ["✗", "chosen wrong, a right one was there"],
    none: ["–", "no right candidate"], open: ["?", "nothing chosen"],
  };
  function bestOfN() {
    const problems = index.problems, box = get("problem-list"), target = get("problem");
    let kept = [], now = -1, at = 0, rule = 0;
    const nRight = (p) => problems[p].members.filter((i) => all.answer[i]).length;
    const choiceOf = (p, r = rule) => {
      const place = problems[p].chosen[r];
      return place === null ? undefined : problems[p].members[place];
    };
    function result(p) {
      const i = choiceOf(p);
      return i === undefined ? "open" : all.answer[i] ? "right" : nRight(p) ? "missed" : "none";
    }
    const mark = (p) => make("span", { class: "badge choice-" + result(p) }, CHOICES[result(p)].join(" "));
    const verdict = (i) => make("span", { class: "badge " + (all.answer[i] ? "found" : "missed") }, all.answer[i] ? "✓ right" : "✗ wrong");
    function select() {
      rule = Number(get("rule").value);
      const wanted = get("choice").value, set = get("problem-set").value;
      kept = problems.map((_, p) => p).filter((p) => (wanted === "" || result(p) === wanted) &&
        (set === "" || all.benchmark[problems[p].members[0]] === Number(set)));
      const counts = Object.keys(CHOICES).map((key) => [key, kept.filter((p) => result(p) === key).length]).filter(([, count]) => count);
      get("problem-status").textContent = [`${kept.length.toLocaleString("en")} of ${problems.length.toLocaleString("en")} problems`,
        ...counts.map(([key, count]) => `${CHOICES[key][1]} ${count.toLocaleString("en")}`)].join(" · ");
      show(kept.includes(now) ? now : kept.length ? kept[0] : -1);
    }
    function show(p) {
      now = p;
      at = Math.max(0, Math.floor(kept.indexOf(p) / PER_PAGE));
      const first = at * PER_PAGE, rows = kept.slice(first, first + PER_PAGE);
      box.replaceChildren(...rows.map((one, row) => {
        const members = problems[one].members, option = make("li", {
          id: "problem-" + one, role: "option", "aria-selected": String(one === now),
          "aria-setsize": kept.length, "aria-posinset": first + row + 1,
        }, make("span", { class: "row" },
          make("span", { class: "row-head" }, mark(one), make("span", { class: "of" }, `${nRight(one)} of ${members.length} right`)),
          make("span", { class: "row-text" }, index.previews[all.preview[members[0]]] || "(no text)")));
        option.addEventListener("click", () => show(one));
        return option;
      }));
      if (now >= 0) box.setAttribute("aria-activedescendant", "problem-" + now);
      else box.removeAttribute("aria-activedescendant");
      get("problem-" + now)?.scrollIntoView({ block: "nearest", container: "nearest" });
      const last = Math.min(first + PER_PAGE, kept.length);
      get("problem-now").textContent = kept.length ? `${first + 1}–${last} of ${kept.length}` : "none";
      get("problem-back").disabled = at === 0;
      get("problem-on").disabled = last >= kept.length;
      one();
    }
    async function one() {
      const p = now;
      if (p < 0) { target.replaceChildren(make("p", { class: "note" }, "No problem fits these filters.")); return; }
      const { members, reference, chosen: places } = problems[p];
      const found = await Promise.all(members.map(texts));
      if (p !== now) return;
      const number = (i) => members.indexOf(i) + 1, mine = choiceOf(p);
      const opener = (i) => {
        const link = make("a", { href: "#solution=" + i, title: "Show its steps" }, String(number(i)));
        link.addEventListener("click", (event) => { event.preventDefault(); touched = true; reach(i); });
        return link;
      };
      const score = (k) => found[k].scores[rule] === undefined ? "–" : Number(found[k].scores[rule].toPrecision(4)).toString();
      const head = (...names) => make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));
      const candidates = members.map((i, k) => make("tr", { class: i === mine ? "current" : "" },
        make("th", { scope: "row" }, opener(i), i === mine ? " ◆ chosen" : ""), make("td", {}, verdict(i)),
        make("td", { class: "text" }, found[k].answer === null ? "(none found)" : found[k].answer),
        make("td", { class: "number" }, score(k)),
        make("td", { class: "number" }, String(places.filter((place) => place === k).length))));
      const byRule = index.rules.map((name, r) => [name, choiceOf(p, r), r]).filter(([, i]) => i !== undefined);
      const rules = byRule.map(([name, i, r]) => make("tr", { class: r === rule ? "current" : "" }, make("th", { scope: "row" }, name),
        make("td", {}, opener(i)), make("td", {}, verdict(i)),
        make("td", { class: "text" }, found[members.indexOf(i)].answer === null ? "(none found)" : found[members.indexOf(i)].answer)));
      const framed = (label, ...parts) => make("div", { class: "frame", role: "region", tabindex: 0, "aria-label": label }, make("table", {}, ...parts));
      target.replaceChildren(make("h3", {}, mark(p), make("span", { class: "of" }, index.benchmarks[all.benchmark[members[0]]])),
        make("div", { class: "problem" }, make("h4", {}, "Problem"), make("p", { class: "text" }, found[0].problem || "(none)")),
        make("h4", {}, "Reference answer"), make("p", { class: "text" }, reference === null ? "(the data name none)" : reference),
        make("h4", {}, `Candidates, and their scores by “${index.rules[rule]}”`),
        framed("Candidates", head("candidate", "right", "answer", "score", `chosen by, of ${byRule.length} rules`), make("tbody", {}, ...candidates)),
        make("h4", {}, "What each rule chooses among all candidates; of equal ones the first"),
        framed("Choices", head("rule", "candidate", "right", "answer"), make("tbody", {}, ...rules)));
      target.scrollTop = 0;
    }
    const step = (by) => { const to = kept[kept.indexOf(now) + by]; if (to !== undefined) show(to); };
    fill("rule", index.rules.map((name, r) => [String(r), name]));
    fill("choice", [["", "all"], ...Object.entries(CHOICES).map(([key, said]) => [key, said[1]])]);
    const sets = [...new Set(problems.map((one) => all.benchmark[one.members[0]]))];
    fill("problem-set", [["", "all"], ...sets.map((b) => [String(b), index.benchmarks[b]])]);
    get("problem-set").parentElement.hidden = sets.length < 2;
    get("problem-filters").addEventListener("input", select);
    get("problem-filters").addEventListener("submit", (event) => event.preventDefault());
    get("problem-back").addEventListener("click", () => show(kept[(at - 1) * PER_PAGE]));
    get("problem-on").addEventListener("click", () => show(kept[(at + 1) * PER_PAGE]));
    box.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
      if (by) { event.preventDefault(); event.stopPropagation(); step(by); }
    });
    select();
  }
  if (index.problems.length) bestOfN();

  filter().then(() => { open(); document.documentElement.dataset.ready = "yes"; });
})();
