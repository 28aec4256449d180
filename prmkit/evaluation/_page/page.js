"use strict";
(() => {
  const PER_PAGE = 50, PACKS_HELD = 64, DELAY = 150;
  const get = (id) => document.getElementById(id);
  const index = JSON.parse(get("index").textContent);
  const all = index.solutions, n = all.id.length;
  const OUTCOMES = {
    found: ["✓", "found exactly"], accepted: ["✓", "no error, accepted"], missed: ["✗", "missed"],
    alarm: ["!", "false alarm"], place: ["≠", "wrong position"], unlabelled: ["?", "not labelled"],
    unscored: ["–", "not scored"],
  };
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
    const [problem, steps, ratings, risks] = (await pack(Math.floor(i / index.perPack)))[i % index.perPack];
    return { problem, steps, ratings, risks };
  }
  function outcome(i, m) {
    const gold = all.gold[i], predicted = all.predicted[i][m];
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
          make("span", { class: "row-text" }, all.preview[i] || index.benchmarks[all.benchmark[i]])));
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
    if (!asked || Number(asked[1]) >= n) return;
    if (!shown.includes(Number(asked[1]))) { get("filters").reset(); clearTimeout(wait); filter().then(open); return; }
    choose(Number(asked[1]));
    get("browser").scrollIntoView();
  }
  fill("model", index.models.map((name, m) => [String(m), name]));
  get("model").parentElement.hidden = index.models.length < 2;
  fill("benchmark", [["", "all"], ...used(all.benchmark, index.benchmarks)]);
  const types = used(all.errorType, index.errorTypes);
  fill("error-type", [["", "all"], ...types, ...(types.length ? [["none", "none named"]] : [])]);
  get("error-type").parentElement.hidden = !types.length;
  fill("outcome", [["", "all"], ["mistake", "any mistake"], ...Object.entries(OUTCOMES).map(([key, said]) => [key, said[1]])]);
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
  filter().then(() => { open(); document.documentElement.dataset.ready = "yes"; });
})();
