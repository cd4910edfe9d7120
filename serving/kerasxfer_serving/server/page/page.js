"use strict";

const SHOWN_CLASSES = 5;
const element = (id) => document.getElementById(id);
const [drop, files, model, results, status] = ["drop", "files", "model", "results", "status"].map(element);
let token = "";

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { ...options, headers });
  element("token-form").hidden = response.status !== 401;
  return response;
}

async function listModels() {
  const response = await ask("v2/repository/index", { method: "POST" });
  if (!response.ok) return;
  const names = [...new Set((await response.json()).map((entry) => entry.name))];
  model.replaceChildren(...names.map((name) => new Option(name)));
  element("model-choice").hidden = names.length < 2;
}

const path = () => `predict/${encodeURIComponent(model.value)}?top_k=${SHOWN_CLASSES}`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function card(file) {
  const item = element("result").content.firstElementChild.cloneNode(true);
  const image = item.querySelector("img");
  image.src = URL.createObjectURL(file);
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  image.addEventListener("error", () => (image.style.visibility = "hidden"));
  item.querySelector("h2").textContent = file.name;
  item.querySelector(".bars").hidden = true;
  results.prepend(item);
  return item;
}

function classes(row) {
  const ranks = Array.from({ length: SHOWN_CLASSES }, (_, rank) => (rank ? `_${rank + 1}` : ""));
  return ranks
    .filter((rank) => row[`label${rank}`] != null)
    .map((rank) => ({ label: row[`label${rank}`], share: row[`probability${rank}`] }));
}

function bar({ label, share }) {
  const item = document.createElement("li");
  item.style.setProperty("--share", percent(share).replace(" ", ""));
  for (const text of [label, percent(share)]) {
    item.appendChild(document.createElement("span")).textContent = text;
  }
  return item;
}

const said = (row) => (row.labels ? row.labels.join(", ") || "none of the labels" : row.label);

function show(item, answer, milliseconds) {
  const row = answer.predictions?.[0];
  const good = row?.status === "ok";
  item.classList.toggle("bad", !good);
  item.querySelector(".answer").textContent = good ? said(row) : answer.error;
  if (!good) return;
  const bars = item.querySelector(".bars");
  bars.hidden = false;
  bars.replaceChildren(...classes(row).map(bar));
  const notes = [`${row.width} × ${row.height} pixels`, `${Math.round(milliseconds)} ms`, row.message];
  item.querySelector(".quiet").textContent = notes.filter(Boolean).join(" · ");
}

async function classify(file) {
  const item = card(file);
  const started = performance.now();
  try {
    const response = await ask(path(), { method: "POST", body: file });
    const answer = await response.json();
    show(item, answer, performance.now() - started);
    return response.ok;
  } catch (error) {
    show(item, { error: `The server does not answer: ${error.message}` });
    return false;
  }
}

async function classifyAll(chosen) {
  const list = [...chosen];
  if (!list.length) return;
  status.textContent = `Classifying ${list.length} ${list.length === 1 ? "image" : "images"} …`;
  showRequests(list[0].name);
  const waiting = list.values();
  let answered = 0;
  const work = async () => {
    for (const file of waiting) if (await classify(file)) answered += 1;
  };
  await Promise.all(Array.from({ length: 4 }, work));
  const first = results.querySelector(".answer").textContent;
  status.textContent = list.length === 1 ? `${list[0].name}: ${first}` : `${answered} of ${list.length} images classified.`;
}

function showRequests(name) {
  const url = new URL(path(), location.href).href;
  const quoted = `'${name.replaceAll("'", "'\\''")}'`;
  const header = token ? " -H 'Authorization: Bearer TOKEN'" : "";
  element("curl").textContent = `curl${header} --data-binary @${quoted} '${url}'`;
  const headers = token ? ', headers={"Authorization": "Bearer TOKEN"}' : "";
  element("python").textContent = [
    "import requests",
    "",
    `with open(${JSON.stringify(name)}, "rb") as image:`,
    `    answer = requests.post(${JSON.stringify(url)}, data=image${headers})`,
    'print(answer.json()["predictions"][0]["label"])',
  ].join("\n");
  element("requests").hidden = false;
}

async function copy(button) {
  await navigator.clipboard.writeText(element(button.dataset.copy).textContent);
  status.textContent = "Copied.";
}

files.addEventListener("change", async () => {
  const chosen = [...files.files];
  files.value = "";
  await classifyAll(chosen);
});
document.addEventListener("paste", (event) => classifyAll(event.clipboardData.files));
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", over);
    if (name === "drop") classifyAll(event.dataTransfer.files);
  });
}
drop.addEventListener("submit", (event) => event.preventDefault());
element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = element("token").value;
  listModels();
});
for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
listModels();
