"use strict";

const PAGE = 48;
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const $ = (id) => document.getElementById(id);
const classes = read("classes");
const thumbnails = read("thumbnails");
const filters = { problem: $("problem"), subset: $("subset"), given: $("given") };
const rows = read("found").map((row) => ({ ...row, decision: "" }));
let list = "labels";
let page = 0;
let shown = [];

// Decisions survive a reload, where the browser keeps anything for files.
const key = `kerasxfer audit ${rows.length} ${rows.map((row) => row.path).join().length} ${document.title}`;
function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(key) ?? "[]");
    kept.forEach((decision, i) => { if (rows[i]) rows[i].decision = String(decision); });
  } catch { /* none are kept */ }
}
function save() {
  try { localStorage.setItem(key, JSON.stringify(rows.map((row) => row.decision))); } catch { /* none are kept */ }
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter(Boolean));
  return made;
}

function picture(path, given, what) {
  const image = thumbnails[path]
    ? element("img", { src: thumbnails[path], alt: `${what}, labelled ${given || "nothing"}`, loading: "lazy" })
    : element("span", { className: "no-image", textContent: "no image to show" });
  return element("figure", {}, image, element("figcaption", {}, element("b", { textContent: given }), element("span", { className: "path", textContent: path })));
}

function choices(row) {
  const named = [["Exclude", "exclude"], ["Keep", "keep"]];
  if (row.suggested) named.splice(1, 0, [`Label: ${row.suggested}`, `label: ${row.suggested}`]);
  else if (row.other_given && row.other_given !== row.given) named.splice(1, 0, [`Label: ${row.other_given}`, `label: ${row.other_given}`]);
  return named;
}

function card(row) {
  const buttons = element("div", { className: "buttons" });
  for (const [text, decision] of choices(row)) {
    const button = element("button", { type: "button", textContent: text });
    button.dataset.decision = decision;
    button.addEventListener("click", () => decide(item, row, row.decision === decision ? "" : decision));
    buttons.append(button);
  }
  const item = element(
    "li",
    { className: "finding", tabIndex: 0 },
    element("div", { className: "pair" }, picture(row.path, row.given, "The image"), row.other && picture(row.other, row.other_given, "The other image")),
    element("p", {}, element("strong", { textContent: row.problem }), ` in ${row.subset}. ${row.reason}`),
    row.suggested && element("p", {}, `Suggested label: ${row.suggested}`),
    buttons,
  );
  item.row = row;
  mark(item, row);
  return item;
}

function mark(item, row) {
  item.dataset.decision = row.decision;
  for (const button of item.querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.decision === row.decision);
}

function decide(item, row, decision) {
  row.decision = decision;
  mark(item, row);
  save();
  tell();
}

function tell() {
  const decided = rows.filter((row) => row.decision).length;
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  $("status").textContent = `${shown.length.toLocaleString("en")} shown, page ${page + 1} of ${pages}; ${decided.toLocaleString("en")} of ${rows.length.toLocaleString("en")} decided.`;
  $("previous").disabled = page === 0;
  $("next").disabled = page >= pages - 1;
}

function draw() {
  shown = rows.filter((row) => row.list === list && Object.entries(filters).every(([name, select]) => !select.value || row[name] === select.value) && !($("open").checked && row.decision));
  page = Math.min(page, Math.max(0, Math.ceil(shown.length / PAGE) - 1));
  $("findings").replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(card));
  tell();
}

function offer() {
  for (const [name, select] of Object.entries(filters)) {
    const values = [...new Set(rows.filter((row) => row.list === list).map((row) => row[name]))].filter(Boolean);
    const ordered = name === "given" ? classes.filter((each) => values.includes(each)) : values;
    select.replaceChildren(element("option", { value: "", textContent: "all" }), ...ordered.map((value) => element("option", { value, textContent: value })));
  }
}

function open(name) {
  list = name;
  page = 0;
  for (const button of document.querySelectorAll("[data-list]")) {
    button.setAttribute("aria-pressed", button.dataset.list === name);
    if (button.dataset.list === name) $("about").textContent = button.dataset.about;
  }
  offer();
  draw();
}

function turn(by) {
  page += by;
  draw();
  $("findings").firstElementChild?.focus();
}

const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
function table() {
  const lines = rows.map((row) => [row.path, row.problem, row.suggestion, row.decision].map(cell).join(","));
  return ["path,problem,suggestion,decision", ...lines, ""].join("\n");
}

document.querySelectorAll("[data-list]").forEach((button) => button.addEventListener("click", () => open(button.dataset.list)));
for (const control of [...Object.values(filters), $("open")]) control.addEventListener("change", () => { page = 0; draw(); });
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("download").addEventListener("click", () => {
  const link = element("a", { href: URL.createObjectURL(new Blob([table()], { type: "text/csv" })), download: "decisions.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
$("findings").addEventListener("keydown", (event) => {
  const item = event.target.closest(".finding");
  if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
  const label = choices(item.row).map(([, decision]) => decision).find((decision) => decision.startsWith("label: "));
  const decision = { e: "exclude", k: "keep", u: "", l: label }[event.key.toLowerCase()];
  if (decision !== undefined) decide(item, item.row, decision);
  else if (event.key === "ArrowRight") (item.nextElementSibling ?? $("next")).focus();
  else if (event.key === "ArrowLeft") (item.previousElementSibling ?? $("previous")).focus();
  else return;
  event.preventDefault();
});
load();
open("labels");
