
"use strict";
(() => {
  const LINES = 16; // more lines than this cannot be told apart in one pair of axes
  const MARKERS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const HUES = 6;
  const WIDER = Math.log10(1.25);
  const DECADES = 12; // a logarithmic axis over more of them has no room for every power of ten

  const table = document.getElementById("table");
  const body = document.getElementById("rows");
  const filters = document.getElementById("filters");
  const figures = JSON.parse(document.getElementById("figure-data").textContent);
  const visible = () => [...body.rows].filter((row) => !row.hidden).map((row) => row.id);

  // --- the table ---------------------------------------------------------------------------------------------------

  const keyOf = (row, column) => {
    const { key } = row.cells[column].dataset;
    if (key === undefined) return null;
    return key !== "" && Number.isFinite(Number(key)) ? Number(key) : key;
  };

  function sortBy(head, column) {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const sign = descending ? -1 : 1;
    const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last, either way
      if (typeof a === "number" && typeof b === "number") return sign * (a - b);
      return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
    });
    body.append(...rows.map(([, row]) => row));
    drawAll();
  }

  function filter() {
    const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const facets = [...filters.querySelectorAll("[data-facet]")].filter((select) => select.value);
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden =
        !words.every((word) => text.includes(word)) ||
        !facets.every((select) => row.dataset[select.dataset.facet] === select.value);
    }
    const shown = new Set(visible());
    for (const tile of document.querySelectorAll(".tile[data-row]")) tile.hidden = !shown.has(tile.dataset.row);
    document.getElementById("count").textContent = `${shown.size} of ${body.rows.length} rows`;
    hideEmptyColumns(shown);
    drawAll();
  }

  // A score of another dataset has nothing to say of the rows that are left.
  function hideEmptyColumns(shown) {
    const rows = [...body.rows].filter((row) => shown.has(row.id));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.hidden = rows.length > 0 && rows.every((row) => row.cells[column].dataset.key === undefined);
      for (const part of table.tBodies) for (const row of part.rows) row.cells[column].hidden = head.hidden;
    });
  }

  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    const text = head.querySelector(".head");
    button.textContent = text.textContent;
    text.replaceWith(button);
    button.addEventListener("click", () => sortBy(head, column));
  });
  filters.hidden = false;
  document.getElementById("no-script").remove();
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("count").textContent = `${body.rows.length} of ${body.rows.length} rows`;

  // --- the figures -------------------------------------------------------------------------------------------------

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    return {
      ink: value("--ink"), quiet: value("--quiet"), line: value("--line"), paper: value("--paper"),
      hues: Array.from({ length: HUES }, (_, index) => value(`--hue-${index}`)),
    };
  };

  const short = (name) => (name.length > 40 ? `${name.slice(0, 39)}…` : name);
  // Plotly takes some HTML in text, links among it; names are nothing but text.
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const inert = (name) => escaped(short(name));
  const pick = (list, places) => (list.length ? places.map((place) => list[place]) : list);

  // Points that are means over rows, as means over those that are left, in the widest of their bounds.
  function overRowsLeft(each, rank) {
    const left = each.parts.map((parts) => parts.filter(({ row }) => rank.has(row)));
    const of = (figure) => left.map((parts) => (parts.length ? figure(parts) : null));
    return {
      ...each, rows: of((parts) => parts[0].row), y: of((parts) => parts.reduce((sum, { y }) => sum + y, 0) / parts.length),
      low: of((parts) => Math.min(...parts.map(({ low }) => low))),
      high: of((parts) => Math.max(...parts.map(({ high }) => high))),
    };
  }

  // What the filter leaves of a panel's series, in the order of the table.
  function shownSeries(panel) {
    const rank = new Map(visible().map((id, index) => [id, index]));
    const series = [];
    for (const whole of panel.series) {
      if (whole.row) {
        if (rank.has(whole.row)) series.push(whole);
        continue;
      }
      const each = whole.parts.length ? overRowsLeft(whole, rank) : whole;
      const places = each.rows.flatMap((id, place) => (rank.has(id) ? [place] : []));
      if (!places.length) continue;
      const kept = { ...each };
      for (const name of ["x", "y", "low", "high", "rows", "labels", "names"]) kept[name] = pick(each[name], places);
      series.push(kept);
    }
    const first = (each) => rank.get(each.row || each.rows[0]);
    return series.sort((a, b) => first(a) - first(b));
  }

  function tracesOf(each, look) {
    const colour = look.hues[each.hue % HUES];
    const entry = each.group || each.name;
    const trace = {
      type: "scatter", name: inert(each.in_legend ? entry : each.name), legendgroup: entry,
      x: each.x, y: each.y, meta: each.row || each.rows,
      mode: each.labels.some(Boolean) ? "markers+text" : each.mode, showlegend: each.in_legend,
      line: { color: colour, width: 1.75, dash: DASHES[each.dash % DASHES.length], shape: each.step ? "vh" : "linear" },
      marker: { color: colour, size: 8, symbol: MARKERS[each.marker % MARKERS.length] },
      text: each.names.length ? each.names.map(inert) : inert(each.name), textposition: "top center", textfont: { color: colour, size: 12 },
      hovertemplate: each.names.length ? "%{text}<br>%{x}<br>%{y}<extra>%{fullData.name}</extra>" : "%{x}<br>%{y}<extra>%{text}</extra>",
    };
    if (each.labels.some(Boolean)) {
      trace.text = each.labels.map(inert);
      trace.customdata = each.names.map(inert);
      trace.hovertemplate = "%{customdata}<br>%{x}<br>%{y}<extra>%{fullData.name}</extra>";
    }
    const bounded = each.low.flatMap((low, place) => (low === null || each.high[place] === null ? [] : [place]));
    if (!bounded.length) return [trace];
    if (each.mode === "markers") {
      const up = each.high.map((high, place) => (high === null ? 0 : high - each.y[place]));
      const down = each.low.map((low, place) => (low === null ? 0 : each.y[place] - low));
      trace.error_y = { type: "data", symmetric: false, array: up, arrayminus: down, color: colour, thickness: 1, width: 3 };
      return [trace];
    }
    const there = pick(each.x, bounded);
    const band = {
      type: "scatter", mode: "lines", fill: "toself", hoverinfo: "skip", showlegend: false, meta: "band", legendgroup: entry,
      x: [...there, ...there.slice().reverse()],
      y: [...pick(each.high, bounded), ...pick(each.low, bounded).reverse()],
      line: { width: 0, color: colour }, fillcolor: colour, opacity: 0.18,
    };
    return [band, trace];
  }

  // 1, 2 and 5 times the powers of ten, written out, in a range that holds at least three of them; over many decades
  // some powers of ten alone. In logarithms: the least number there is cannot be divided, nor the greatest multiplied.
  function logAxis(values) {
    const places = values.map(Math.log10);
    let low = places.reduce((least, place) => Math.min(least, place));
    let high = places.reduce((most, place) => Math.max(most, place));
    const inside = () => {
      const step = Math.ceil((high - low) / DECADES) || 1;
      const ticks = [];
      for (let power = Math.floor(low / step) * step; power <= high; power += step) {
        for (const factor of step > 1 ? [1] : [1, 2, 5]) {
          const place = power + Math.log10(factor);
          if (place >= low - 1e-9 && place <= high + 1e-9) ticks.push(Number(`${factor}e${power}`));
        }
      }
      return ticks.filter((tick) => tick > 0 && Number.isFinite(tick));
    };
    for (let widened = 0; widened < 10 && inside().length < 3; widened += 1) {
      low -= WIDER;
      high += WIDER;
    }
    return { ticks: inside(), range: [low, high] };
  }

  function ticked(log, given, values) {
    if (!log || !values.length) return {};
    const { ticks, range } = logAxis(given.length > 1 ? given : values);
    const room = (range[1] - range[0]) * 0.06;
    const shown = given.length ? given : ticks;
    return { tickvals: shown, ticktext: shown.map(tickText), range: [range[0] - room, range[1] + room] };
  }

  const tickText = (tick) => (tick >= 1e4 && tick < 1e9 ? `${tick / 1000}k` : String(tick));

  function layoutOf(panel, series, node, entries, look) {
    const narrow = node.clientWidth < 560;
    const drawn = (...names) => names.flatMap((name) => series.flatMap((each) => each[name])).filter((value) => value > 0);
    const axis = ({ title, log, ticks }, values) => ({
      title: { text: escaped(narrow ? title.replace(" (logarithmic)", ", log") : title), standoff: 8, font: { size: 13 } },
      type: log ? "log" : "linear", gridcolor: look.line, linecolor: look.quiet, zeroline: false, automargin: true,
      ticks: "outside", ticklen: 4, tickcolor: look.quiet, exponentformat: "SI", ...ticked(log, ticks, values),
    });
    const longest = Math.max(0, ...series.filter((each) => each.in_legend).map((each) => short(each.group || each.name).length));
    const perLine = Math.max(1, Math.floor((node.clientWidth - 64) / (60 + 7.5 * longest)));
    const legend = entries > 1 || series.some((each) => each.mode === "markers") ? 24 * Math.ceil(entries / perLine) + 16 : 0;
    return {
      height: (narrow ? 320 : 400) + legend,
      margin: { l: 48, r: 16, t: 16, b: 48 + legend },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: look.ink },
      xaxis: axis(panel.x, drawn("x")), yaxis: axis(panel.y, drawn("y", "low", "high")), showlegend: Boolean(legend),
      legend: { orientation: "h", traceorder: "normal", x: 0, xanchor: "left", y: 0, yref: "container", yanchor: "bottom", font: { size: 13 } },
      hoverlabel: { bgcolor: look.paper, bordercolor: look.quiet, font: { color: look.ink, size: 13 } },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
  }

  // The text alternative: every number that is drawn, bands included.
  function numbers(panel, series) {
    const bounded = series.some((each) => each.low.some((low) => low !== null));
    const named = series.some((each) => each.names.length);
    const heads = ["series", ...(named ? ["row"] : []), panel.x.title, panel.y.title, ...(bounded ? ["low", "high"] : [])];
    const made = document.createElement("table");
    made.createCaption().textContent = panel.label;
    const line = made.createTHead().insertRow();
    for (const head of heads) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = head.replace(" (logarithmic)", "");
      line.append(cell);
    }
    const rows = made.createTBody();
    const show = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(6))));
    for (const each of series) {
      each.x.forEach((x, place) => {
        const row = rows.insertRow();
        const cells = [each.name, ...(named ? [each.names[place] || ""] : []), show(x), show(each.y[place])];
        if (bounded) cells.push(show(each.low[place]), show(each.high[place]));
        for (const text of cells) row.insertCell().textContent = text;
      });
    }
    return made;
  }

  function plot(node, panel, series) {
    const look = colours();
    const entries = series.filter((each) => each.in_legend).length;
    const traces = series.flatMap((each) => tracesOf(each, look));
    Plotly.react(node, traces, layoutOf(panel, series, node, entries, look), { displayModeBar: false });
  }

  function draw(figure) {
    const place = document.getElementById(figure.id);
    const select = place.querySelector("select");
    if (!select) return;
    const rows = new Set(visible());
    for (const option of select.options) {
      const { row } = figure.panels[option.value];
      option.hidden = option.disabled = Boolean(row) && !rows.has(row);
    }
    if (select.selectedOptions[0]?.disabled) {
      const next = [...select.options].find((option) => !option.disabled);
      if (next) select.value = next.value;
    }
    const panel = figure.panels[select.value];
    const all = shownSeries(panel);
    const lines = panel.row || all.every((each) => each.mode === "markers" || !each.in_legend);
    const series = lines ? all : all.slice(0, LINES);
    const cut = all.length > series.length ? ` Drawn: the first ${LINES} of ${all.length} rows in the order of the table; sort or filter it for others.` : "";
    const none = all.length ? "" : " No row that the filter leaves has such points.";
    place.querySelector(".note").textContent = panel.note + cut + none;
    const node = place.querySelector(".canvas");
    if (node) plot(node, panel, series);
    const details = place.querySelector("details.data");
    details.hidden = false;
    const fill = () => details.open && details.querySelector("div").replaceChildren(numbers(panel, series));
    details.ontoggle = fill;
    fill();
  }

  let ready = false;
  let asked = 0;
  function drawAll() {
    if (!ready) return;
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(() => figures.forEach(draw));
  }

  async function loadPlotly() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  // What is said in place of a figure is no picture; its numbers are there all the same.
  function replaceFigures(text) {
    for (const node of document.querySelectorAll(".canvas")) {
      const said = document.createElement("p");
      said.className = "warning";
      said.textContent = text;
      node.closest("figure").querySelector("details.data").open = true;
      node.replaceWith(said);
    }
  }

  function show() {
    figures.forEach(draw);
    ready = true;
    for (const figure of figures) {
      document.querySelector(`#${figure.id} select`)?.addEventListener("change", () => draw(figure));
    }
    document.getElementById("figure-rule").hidden = false;
    addEventListener("resize", drawAll);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  }

  loadPlotly().then(() => {
    show();
    document.documentElement.dataset.drawn = "true";
  }).catch((error) => {
    console.error(error);
    replaceFigures("This browser could not draw the figure. Its numbers are below.");
    show();
    document.documentElement.dataset.drawn = "false";
  });
})();
