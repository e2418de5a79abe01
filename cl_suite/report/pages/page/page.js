"use strict";
// Sorting, filtering, following a run. Whatever comes from a record is put in as text, never as HTML.
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const make = (name, text, ...children) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = text;
    element.append(...children);
    return element;
  };

  const sortBy = (heading) => {
    const table = heading.closest("table");
    const place = [...heading.parentElement.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") ? heading.getAttribute("aria-sort") === "ascending" : !heading.classList.contains("words");
    all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const words = heading.classList.contains("words");
    const keyed = [...table.tBodies[0].rows].map((row) => [row.cells[place].dataset.sort, row]);
    keyed.sort(([a], [b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined); // missing last, always
      const order = words ? a.localeCompare(b) : Number(a) - Number(b);
      return down ? -order : order;
    });
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  all("table.sortable thead button").forEach((button) => button.addEventListener("click", () => sortBy(button.parentElement)));

  const form = document.getElementById("filters");
  const sections = all("section.table");
  const links = new Map(all("nav li[data-for]").map((item) => [item.dataset.for, item]));
  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const name = wanted.strategy.trim().toLowerCase();
    let rows = 0;
    let tables = 0;
    for (const section of sections) {
      const fits = ["stream", "scenario", "protocol"].every((key) => !wanted[key] || section.dataset[key] === wanted[key]);
      let shown = 0;
      if (fits) {
        all("table.sortable", section).forEach((table, number) => {
          for (const row of table.tBodies[0].rows) {
            const within = ["memory", "samples"].every((key) => wanted[key] === "" || Number(row.dataset[key]) <= Number(wanted[key]));
            row.hidden = !within || !row.cells[0].textContent.toLowerCase().includes(name);
            if (!row.hidden && number === 0) shown += 1;
          }
        });
      }
      section.hidden = !shown;
      links.get(section.id).hidden = !shown;
      rows += shown;
      tables += shown ? 1 : 0;
    }
    document.getElementById("found").value = `${rows} row${rows === 1 ? "" : "s"} in ${tables} table${tables === 1 ? "" : "s"}`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();

  const themes = ["", "light", "dark"];
  const button = document.getElementById("theme");
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "") + 1) % themes.length];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    button.textContent = `Theme: ${next || "as the system"}`;
  });

  const runs = JSON.parse(document.getElementById("runs").textContent);
  const dialog = document.getElementById("run");
  const percent = (value) => (value === null ? "" : (100 * value).toFixed(1));
  const matrix = (run, tasks) => {
    const table = make("table");
    table.className = "matrix";
    const width = Math.max(0, ...run.R.map((row) => row.length));
    const head = make("tr", null, make("th", "after"));
    for (let task = 0; task < width; task += 1) {
      const heading = make("th", String(task));
      heading.scope = "col";
      heading.title = tasks[task] ?? "";
      head.append(heading);
    }
    const body = make("tbody");
    run.R.forEach((row, number) => {
      const line = make("tr", null, make("th", String(number)));
      row.forEach((score) => {
        const cell = make("td", percent(score));
        if (score !== null) cell.style.setProperty("--share", String(0.65 * Math.min(1, Math.max(0, score))));
        line.append(cell);
      });
      body.append(line);
    });
    table.append(make("thead", null, head), body);
    table.setAttribute("aria-label", `Accuracy of seed ${run.seed}`);
    const box = make("div", null, table);
    box.className = "scroll";
    box.tabIndex = 0;
    const told = make("p", "Accuracy in percent: rows = after which experience, columns = tasks");
    told.className = "facts";
    return make("div", null, told, box);
  };
  const pairs = (entries) => {
    const list = make("dl");
    entries.forEach(([name, value]) => list.append(make("dt", name), make("dd", value)));
    return list;
  };
  const show = () => {
    const name = decodeURIComponent(location.hash).replace(/^#run=/, "");
    const chosen = Object.hasOwn(runs, name) && location.hash.startsWith("#run=") ? runs[name] : null;
    if (!chosen) {
      if (dialog.open) dialog.close();
      return;
    }
    document.getElementById("run-title").textContent = chosen.title;
    const parts = [make("p", `configuration ${chosen.hash}; ${chosen.runs.length} seed${chosen.runs.length > 1 ? "s" : ""}`)];
    chosen.runs.forEach((run, number) => {
      const facts = Object.entries(run.metrics).map(([key, value]) => [key, Number(value.toPrecision(5)).toString()]);
      const block = make("details", null, make("summary", `seed ${run.seed}: ACC ${percent(run.metrics.acc ?? null) || "-"}`), matrix(run, chosen.tasks));
      block.open = number === 0;
      if (run.command) block.append(make("p", run.command.includes(".../") ? "Repeat it, with your own folder where ... stands:" : "Repeat it:"), make("pre", run.command));
      block.append(pairs(facts), make("h3", "Provenance"), pairs(run.facts));
      parts.push(block);
    });
    parts.push(make("details", null, make("summary", "Options"), pairs(chosen.options)));
    document.getElementById("run-body").replaceChildren(...parts);
    if (!dialog.open) dialog.showModal();
  };
  dialog.addEventListener("close", () => {
    if (location.hash.startsWith("#run=")) history.pushState(null, "", location.pathname + location.search);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  addEventListener("hashchange", show);
  show();
})();
