"use strict";
// Tables that sort by the header that is pressed, and long ones that show the rows with the words typed above them.
// Without this script they are plain tables, sorted by name.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : typeof a === "number" ? -1 : typeof b === "number" ? 1 : a < b ? -1 : a > b ? 1 : 0;

  for (const header of table.querySelectorAll("th[data-column]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const column = Number(header.dataset.column);
      const down = header.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map(row => [value(row, column), row]);
      rows.sort(([a], [b]) => down && typeof a === typeof b ? compare(b, a) : compare(a, b));
      body.append(...rows.map(([, row]) => row));
    });
  }

  if (table.classList.contains("filtered")) {
    const line = document.createElement("p");
    const label = document.createElement("label");
    const input = document.createElement("input");
    const output = document.createElement("output");
    line.className = "filter";
    label.append("Filter ", input);
    input.type = "search";
    input.placeholder = "words, all of them";
    const texts = [...body.rows].map(row => [row, row.textContent.toLowerCase()]);
    const filter = () => {
      const words = input.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const [row, text] of texts) {
        row.hidden = !words.every(word => text.includes(word));
        shown += !row.hidden;
      }
      output.textContent = `${shown} of ${texts.length} rows`;
    };
    input.addEventListener("input", filter);
    filter();
    line.append(label, output);
    table.closest(".scroll").before(line);
  }
}
