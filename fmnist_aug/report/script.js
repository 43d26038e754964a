"use strict";
// Opens the images behind a cell of a confusion matrix. All text goes through textContent, so
// that a class name can't become markup.
(() => {
  const data = JSON.parse(document.getElementById("mistakes").textContent);
  const dialog = document.getElementById("behind");
  const title = document.getElementById("behind-title");
  const list = document.getElementById("behind-list");

  const add = (parent, tag, text) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

  // the mistakes of an arm in one cell: those that most runs made first, an image's own together
  const found = (arm, truth, predicted) => {
    const runs = data.runs.filter((run) => run.arm === arm);
    const entries = [];
    for (const run of runs) {
      for (const [place, choice, perMille] of run.errors) {
        if (choice === predicted && data.images[place][1] === truth) {
          entries.push({ place, perMille, seed: run.seed });
        }
      }
    }
    const often = new Map();
    for (const { place } of entries) often.set(place, (often.get(place) ?? 0) + 1);
    entries.sort((a, b) => often.get(b.place) - often.get(a.place) || a.place - b.place || a.seed - b.seed);
    return { entries, often, runs: runs.length };
  };

  const showArm = (arm, truth, predicted) => {
    const { entries, often, runs } = found(arm, truth, predicted);
    const confusion = `${data.names[truth]} → ${data.names[predicted]}`;
    const part = add(list, "section");
    add(part, "h3", `${data.arms[arm]}: ${plural(entries.length, "mislabel")}`);
    add(part, "p", `${plural(often.size, "test image")}, ${plural(runs, "run")}; an image stands here once for each run that mislabelled it.`);
    const tiles = add(part, "ul");
    tiles.className = "tiles";
    for (const { place, perMille, seed } of entries) {
      const [index, , picture] = data.images[place];
      const sure = `${(perMille / 10).toFixed(0)} %`;
      const who = `${data.arms[arm]}, seed ${seed}`;
      const figure = add(add(tiles, "li"), "figure");
      if (picture) {
        const image = add(figure, "img");
        image.src = `data:image/png;base64,${picture}`;
        image.alt = `Test image ${index}: ${data.names[truth]} taken for ${data.names[predicted]}, ${sure}, by ${who}`;
      } else {
        add(figure, "p", "picture left out to keep this page small").className = "left-out";
      }
      add(figure, "figcaption", `${confusion}\n${sure} · image ${index}\n${who}\n${often.get(place)} of ${plural(runs, "run")}`);
    }
  };

  const open = (button) => {
    const table = button.closest("table");
    const [truth, predicted] = [Number(button.dataset.true), Number(button.dataset.predicted)];
    title.textContent = `${data.names[truth]} taken for ${data.names[predicted]}`;
    list.replaceChildren();
    for (const arm of [table.dataset.arm, table.dataset.against]) {
      if (arm) showArm(Number(arm), truth, predicted);
    }
    dialog.showModal();
    dialog.scrollTop = 0;
  };

  // one stop for the Tab key in each matrix; left and right go through all of its cells that open,
  // up and down through those of a column
  const focus = (table, button) => {
    for (const other of table.querySelectorAll("button")) other.tabIndex = other === button ? 0 : -1;
    button.focus();
  };
  const inColumn = (button, down) => {
    const rows = button.closest("tbody").rows;
    const column = button.closest("td").cellIndex;
    for (let row = button.closest("tr").sectionRowIndex + down; rows[row]; row += down) {
      const next = rows[row].cells[column].querySelector("button");
      if (next) return next;
    }
    return null;
  };
  for (const table of document.querySelectorAll("table.matrix")) {
    const buttons = [...table.querySelectorAll("button")];
    buttons.forEach((button, position) => { button.tabIndex = position ? -1 : 0; });
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      focus(table, button);
      open(button);
    });
    table.addEventListener("keydown", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const place = buttons.indexOf(button);
      const next = {
        ArrowLeft: () => buttons[place - 1],
        ArrowRight: () => buttons[place + 1],
        ArrowUp: () => inColumn(button, -1),
        ArrowDown: () => inColumn(button, 1),
        Home: () => buttons[0],
        End: () => buttons[buttons.length - 1],
      }[event.key];
      if (!next) return;
      event.preventDefault();
      focus(table, next() ?? button);
    });
  }
  document.getElementById("behind-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  // told a little later: by then another cell may have been opened
  dialog.addEventListener("close", () => { if (!dialog.open) list.replaceChildren(); });
})();
