"use strict";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false };
const charts = [...document.querySelectorAll(".chart")];
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// What a chart takes from the page: colours of the theme, and room for as much as the width allows.
function look(chart) {
  const axis = { gridcolor: style("--line"), linecolor: style("--line"), zeroline: false, fixedrange: true };
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: style("--quiet") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 44, r: 12, t: 24, b: 40 },
    dragmode: false,
    showlegend: false,
    hoverlabel: { bgcolor: style("--card"), bordercolor: style("--line"), font: { color: style("--ink") } },
    xaxis: { ...axis, automargin: true },
    yaxis: { ...axis, automargin: true },
  };
}

function merged(base, own) {
  const result = { ...base, ...own };
  for (const axis of ["xaxis", "yaxis"]) {
    result[axis] = { ...base[axis], ...own[axis] };
    if (own[axis]?.title) result[axis].title = { ...own[axis].title, standoff: 8, font: { size: 13 } };
  }
  return result;
}

for (const chart of charts) {
  const figure = JSON.parse(document.getElementById(`${chart.id}-data`).textContent);
  chart.own = figure.layout;
  Plotly.newPlot(chart, figure.data, merged(look(chart), figure.layout), CONFIG);
  chart.addEventListener("keydown", (event) => step(chart, event));
}

function repaint() {
  for (const chart of charts) {
    const layout = merged(look(chart), chart.own);
    layout.yaxis.type = chart.layout.yaxis.type === "log" ? "log" : undefined;
    layout.shapes = chart.layout.shapes;
    Plotly.react(chart, chart.data, layout, CONFIG);
  }
}

// Buttons over a group of charts: what is drawn, and the scale.
for (const button of document.querySelectorAll("[data-curves]")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    for (const chart of button.parentElement.nextElementSibling.querySelectorAll(".chart")) {
      if (button.dataset.curves === "log") {
        Plotly.relayout(chart, { "yaxis.type": on ? "log" : "linear" });
      } else {
        const traces = chart.data.flatMap((trace, i) => (trace.meta === button.dataset.curves ? [i] : []));
        Plotly.restyle(chart, { visible: on }, traces);
      }
    }
  });
}

// Arrow keys walk through the points of a chart: the hover for the eye, a sentence for the ear.
function step(chart, event) {
  const shown = chart.data.map((trace, i) => [trace, i]).filter(([t]) => t.visible !== false && t.hoverinfo !== "skip" && Array.isArray(t.x));
  if (!["ArrowLeft", "ArrowRight"].includes(event.key) || !shown.length || shown[0][0].type === "heatmap") return;
  event.preventDefault();
  const last = shown[0][0].x.length - 1;
  const at = (chart.at ?? -1) + (event.key === "ArrowRight" ? 1 : -1);
  chart.at = Math.min(Math.max(at, 0), last);
  const unified = chart.layout.hovermode === "x unified";
  const points = shown.map(([, i]) => ({ curveNumber: i, pointNumber: chart.at }));
  Plotly.Fx.hover(chart, unified ? { xval: shown[0][0].x[chart.at] } : points, ["xy"]);
  const number = (value) => (typeof value === "number" ? Number(value.toPrecision(4)) : "no value");
  const words = shown.map(([trace]) => `${trace.name} ${number(trace.y[chart.at])}`);
  const title = chart.layout.xaxis.title.text;
  document.getElementById(`${chart.id}-live`).textContent = `${title} ${number(shown[0][0].x[chart.at])}: ${words.join(", ")}`;
}

const theme = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let dark = prefersDark.matches;

function setTheme(value) {
  dark = value;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  theme.textContent = dark ? "Light" : "Dark";
  repaint();
}

theme.setAttribute("aria-label", "Switch between light and dark");
theme.addEventListener("click", () => setTheme(!dark));
prefersDark.addEventListener("change", () => setTheme(prefersDark.matches));
theme.textContent = dark ? "Light" : "Dark";
