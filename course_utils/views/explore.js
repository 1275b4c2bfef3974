// The attention explorer. It starts every explorer on the page that has not been started, reads its
// data from the JSON beside it, and needs neither a network nor a kernel.
(() => {
  "use strict";

  const MASKED = 255;
  const LEVELS = 254;
  const NAME_LETTERS = 12; // of a token beside the map; longer ones are cut
  const NAMED_KEYS = 5; // keys that the read-out names
  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

  /** How many letters wide a word is drawn, about: 漢 is as wide as two. */
  function widthOf(letters) {
    return letters.reduce((sum, letter) => sum + (letter.codePointAt(0) < 0x1100 ? 1 : 2), 0);
  }

  function shorten(word) {
    const letters = Array.from(word); // an emoji is one letter, and not cut in two
    if (widthOf(letters) <= NAME_LETTERS) return word;
    while (widthOf(letters) >= NAME_LETTERS) letters.pop();
    return letters.join("") + "…";
  }

  function bytesOf(base64) {
    const letters = atob(base64);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
  }

  async function inflate(base64) {
    const packed = new Blob([bytesOf(base64)]).stream();
    const stream = packed.pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function element(tag, attributes = {}, ...children) {
    const svg = ["svg", "text", "rect", "path"].includes(tag);
    const made = svg
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function percent(level, small = "under 1 %") {
    if (level === MASKED) return "masked";
    const share = (100 * level) / LEVELS;
    return level > 0 && share < 1 ? small : `${Math.round(share)} %`;
  }

  class Explorer {
    constructor(root, data, levels) {
      Object.assign(this, data, { root, levels });
      const palette = bytesOf(data.palette);
      this.colours = Array.from({ length: 256 }, (_, i) => palette.slice(3 * i, 3 * i + 3));
      this.pixels = new Uint32Array(
        new Uint8Array(this.colours.flatMap((colour) => [...colour, 255])).buffer,
      );
      this.layer = this.head = 0;
      this.query = this.tokens.length - 1; // where keys are masked, the last token sees the most
      this.cell = clamp(Math.floor(400 / Math.max(this.tokens.length, this.keys.length)), 3, 44);
      this.side = clamp(Math.floor(350 / this.heads) - 3, 20, 64); // of a thumbnail
      this.build();
      this.show();
      const chosen = this.queries[this.query];
      chosen.parentElement.scrollTop = chosen.offsetTop; // without scrolling the notebook
    }

    // --- Reading the weights ---------------------------------------------------------------------

    map(layer, head) {
      const size = this.tokens.length * this.keys.length;
      const start = (layer * this.heads + head) * size;
      return this.levels.subarray(start, start + size);
    }

    row(query) {
      const width = this.keys.length;
      return this.map(this.layer, this.head).subarray(query * width, (query + 1) * width);
    }

    /** The map, made smaller by taking the largest weight of every block; masked where all are. */
    pooled(layer, head) {
      const [rows, columns] = [this.tokens.length, this.keys.length];
      const [height, width] = [Math.min(rows, this.side), Math.min(columns, this.side)];
      const map = this.map(layer, head);
      const pixels = new Uint8Array(height * width).fill(MASKED);
      for (let row = 0; row < rows; row++) {
        const line = Math.floor((row * height) / rows) * width;
        for (let column = 0; column < columns; column++) {
          const level = map[row * columns + column];
          const place = line + Math.floor((column * width) / columns);
          if (level !== MASKED && (pixels[place] === MASKED || level > pixels[place]))
            pixels[place] = level;
        }
      }
      return { pixels, height, width };
    }

    /** The token in quotes, with its place where the same word occurs twice. */
    named(words, index) {
      const twice = words.indexOf(words[index]) !== words.lastIndexOf(words[index]);
      return `‘${words[index]}’${twice ? ` (token ${index + 1})` : ""}`;
    }

    headName(layer, head) {
      return `layer ${layer + 1}, head ${head + 1}`;
    }

    // --- Building the page -----------------------------------------------------------------------

    build() {
      this.read = element("p", { class: "cu-read", role: "status", "aria-live": "polite" });
      const panels = element("div", { class: "cu-panels" }, this.buildHeads(), this.buildMap());
      const strips = element("div", { class: "cu-strips" }, ...this.buildStrips(), this.read);
      this.view = element("div", { class: "cu-view" }, panels, strips);
      // the notebook would take a key such as "b" for its own command
      this.root.addEventListener("keydown", (event) => event.stopPropagation());
      this.root.querySelector(".cu-static").hidden = true;
      this.root.append(this.view);
    }

    buildHeads() {
      const label = "Heads: choose one with a click or the arrow keys";
      const grid = element("div", { class: "cu-heads", role: "grid", "aria-label": label });
      const numbers = element(
        "div",
        { class: "cu-row", "aria-hidden": "true" },
        element("span", { class: "cu-number" }, "head"),
      );
      for (let head = 0; head < this.heads; head++) {
        numbers.append(
          element("span", { class: "cu-number", style: `width:${this.side}px` }, String(head + 1)),
        );
      }
      grid.append(numbers);
      this.thumbnails = this.layers.map((_, layer) => this.buildLayer(grid, layer));
      grid.addEventListener("keydown", (event) => this.onHeadKey(event));
      const hint = element(
        "p",
        { class: "cu-label" },
        "Every head ",
        element("span", { class: "cu-hint" }, "click, or Tab and arrow keys"),
      );
      return element("div", { class: "cu-panel" }, hint, grid);
    }

    buildLayer(grid, layer) {
      const name = element(
        "span",
        { class: "cu-number", role: "rowheader", title: this.layers[layer] },
        `layer ${layer + 1}`,
      );
      const row = element("div", { class: "cu-row", role: "row" }, name);
      const thumbnails = Array.from({ length: this.heads }, (_, head) => {
        const { pixels, height, width } = this.pooled(layer, head);
        const canvas = element("canvas", { width, height, "aria-hidden": "true" });
        this.paint(canvas, pixels);
        const size = `width:${this.side}px;height:${this.side}px`;
        const button = element(
          "div",
          {
            class: "cu-head",
            role: "gridcell",
            "data-layer": layer,
            "data-head": head,
            style: size,
          },
          canvas,
        );
        button.setAttribute("aria-label", this.headName(layer, head));
        button.addEventListener("click", () => this.choose({ layer, head }, button));
        return button;
      });
      row.append(...thumbnails);
      grid.append(row);
      return thumbnails;
    }

    buildMap() {
      const { cell, tokens, keys } = this;
      const longest = (words) => Math.max(...words.map((word) => widthOf(Array.from(shorten(word))))) * 6.6;
      this.slanted = longest(keys) > cell - 4;
      this.left = longest(tokens) + 30;
      this.top = 26 + (this.slanted ? longest(keys) * 0.72 + 8 : 16);
      const [width, height] = [cell * keys.length, cell * tokens.length];
      const margin = this.slanted ? longest(keys.slice(-4)) * 0.72 : 4;
      this.canvas = element("canvas", { width: keys.length, height: tokens.length });
      this.canvas.style.cssText = `left:${this.left}px;top:${this.top}px;width:${width}px;height:${height}px`;
      this.svg = element("svg", {
        width: Math.max(this.left + width + margin, 200),
        height: this.top + height + 3,
        role: "img",
      });
      this.svg.append(...this.axes(width, height));
      this.mark = element("rect", { x: this.left - 1, width: width + 2, height: cell + 2 });
      this.spot = element("rect", { width: cell, height: cell });
      this.tip = element("div", { class: "cu-tip" });
      this.svg.append(this.mark, this.spot);
      this.svg.addEventListener("pointermove", (event) => this.onPointer(event));
      this.svg.addEventListener("pointerleave", () => this.show());
      this.svg.addEventListener("click", (event) => this.onPointer(event, true));
      this.heading = element("p", { class: "cu-label" });
      const area = element("div", { class: "cu-map" }, this.canvas, this.svg, this.tip);
      return element("div", { class: "cu-panel" }, this.heading, area, this.buildLegend());
    }

    axes(width, height) {
      const { cell, left, top } = this;
      const rows = this.tokens.map((word, i) => [
        word,
        left - 6,
        top + (i + 0.5) * cell + 4,
        "end",
        0,
      ]);
      const columns = this.keys.map((word, i) => {
        const x = left + (i + 0.5) * cell;
        return this.slanted ? [word, x, top - 5, "start", -45] : [word, x, top - 6, "middle", 0];
      });
      const write = ([word, x, y, anchor, turn]) =>
        element(
          "text",
          { "text-anchor": anchor, transform: `translate(${x} ${y}) rotate(${turn})` },
          shorten(word),
        );
      this.rowNames = rows.map(write);
      this.columnNames = columns.map(write);
      // at 128 tokens only every third or fourth name has room
      const sparse = (names, room) => names.filter((_, i) => i % Math.ceil(room / cell) === 0);
      const lines =
        cell < 10
          ? ""
          : [
              ...rows.map((_, i) => `M${left} ${top + i * cell}h${width}`),
              ...columns.map((_, i) => `M${left + i * cell} ${top}v${height}`),
            ].join("");
      const asks = `translate(12 ${top + height / 2}) rotate(-90)`;
      return [
        element("path", { d: lines }),
        element("rect", { class: "cu-frame", x: left, y: top, width, height }),
        element(
          "text",
          { class: "cu-axis", "text-anchor": "middle", transform: asks },
          "asks (query)",
        ),
        element(
          "text",
          { class: "cu-axis", "text-anchor": "middle", x: left + width / 2, y: 13 },
          "is asked (key)",
        ),
        ...sparse(this.rowNames, 11),
        ...sparse(this.columnNames, 15),
      ];
    }

    buildLegend() {
      const stops = Array.from({ length: 11 }, (_, i) =>
        this.css(Math.round(LEVELS * (i / 10) ** 2)),
      );
      const bar = element("div", { style: `background:linear-gradient(90deg,${stops.join()})` });
      const ticks = [0, 1, 5, 25, 50, 100].map((share) =>
        element(
          "span",
          { style: `left:${10 * Math.sqrt(share)}%` },
          share === 100 ? "100 %" : String(share),
        ),
      );
      const legend = element("div", { class: "cu-legend", "aria-hidden": "true" });
      legend.append("weight", element("div", { class: "cu-scale" }, bar, ...ticks));
      if (this.levels.includes(MASKED)) {
        const swatch = element("span", {
          class: "cu-swatch",
          style: `background:${this.css(MASKED)}`,
        });
        legend.append(element("span", {}, swatch, "masked: may not look"));
      }
      return legend;
    }

    buildStrips() {
      const label = "Query: the token that asks";
      const strip = element("div", {
        class: "cu-strip",
        role: "listbox",
        "aria-label": label,
        "aria-orientation": "horizontal",
        "data-strip": "query",
      });
      this.queries = this.tokens.map((word, query) => {
        const option = element(
          "div",
          { class: "cu-token", role: "option", "data-query": query },
          word,
        );
        option.setAttribute("aria-label", this.named(this.tokens, query));
        option.addEventListener("click", () => this.choose({ query }, option));
        option.addEventListener("pointerenter", () => this.show(query));
        return option;
      });
      strip.append(...this.queries);
      strip.addEventListener("keydown", (event) => this.onQueryKey(event));
      strip.addEventListener("pointerleave", () => this.show());
      const answers = element("div", {
        class: "cu-strip",
        "data-strip": "key",
        "aria-hidden": "true",
      });
      this.answers = this.keys.map((word, key) =>
        element("div", { class: "cu-token", "data-key": key }, word, element("small")),
      );
      answers.append(...this.answers);
      const hint = element("span", { class: "cu-hint" }, "point at a token, or Tab and arrow keys");
      return [
        element("p", { class: "cu-label" }, "asks (query) ", hint),
        strip,
        element("p", { class: "cu-label" }, "is asked (key)"),
        answers,
      ];
    }

    // --- Drawing ---------------------------------------------------------------------------------

    css(level) {
      return `rgb(${this.colours[level].join()})`;
    }

    ink(level) {
      const [red, green, blue] = this.colours[level];
      return 0.3 * red + 0.59 * green + 0.11 * blue < 140 ? "#ffffff" : "#1f2328";
    }

    paint(canvas, pixels) {
      const context = canvas.getContext("2d");
      const image = context.createImageData(canvas.width, canvas.height);
      const colours = new Uint32Array(image.data.buffer); // a pixel's four bytes at once
      for (let i = 0; i < pixels.length; i++) colours[i] = this.pixels[pixels[i]];
      context.putImageData(image, 0, 0);
    }

    /** Draw the chosen head and query; a query or cell under the pointer stands in for the chosen. */
    show(query = this.query, key = null) {
      const row = this.row(query);
      this.showHead();
      this.showRow(query, row);
      this.read.textContent = this.sentence(query, row);
      this.mark.setAttribute("y", this.top + query * this.cell - 1);
      this.columnNames.forEach((name, i) => name.classList.toggle("cu-chosen", i === key));
      this.tip.hidden = this.spot.style.display = "";
      if (key === null) {
        this.tip.hidden = true;
        this.spot.style.display = "none";
      } else {
        this.showCell(query, key, row[key]);
      }
    }

    showHead() {
      const drawn = `${this.layer}/${this.head}`;
      if (drawn === this.drawn) return;
      this.drawn = drawn;
      this.paint(this.canvas, this.map(this.layer, this.head));
      const name = this.headName(this.layer, this.head);
      this.heading.replaceChildren(name[0].toUpperCase() + name.slice(1) + " ");
      const label = this.layers[this.layer];
      if (label !== `layer ${this.layer + 1}`)
        this.heading.append(element("span", { class: "cu-hint" }, label));
      this.svg.setAttribute(
        "aria-label",
        `Map of ${name}: a row for every query, a column for every key`,
      );
      this.thumbnails.flat().forEach((button) => {
        const chosen = button === this.thumbnails[this.layer][this.head];
        button.setAttribute("aria-selected", chosen);
        button.tabIndex = chosen ? 0 : -1;
      });
    }

    showRow(query, row) {
      this.rowNames.forEach((name, i) => name.classList.toggle("cu-chosen", i === query));
      this.queries.forEach((option, i) => {
        option.setAttribute("aria-selected", i === query);
        option.tabIndex = i === this.query ? 0 : -1;
      });
      this.answers.forEach((token, key) => {
        const level = row[key];
        token.style.background = this.css(level);
        token.style.color = this.ink(level);
        token.lastChild.textContent = level ? percent(level, "<1 %") : "";
      });
    }

    showCell(query, key, level) {
      const [x, y] = [this.left + key * this.cell, this.top + query * this.cell];
      this.spot.setAttribute("x", x);
      this.spot.setAttribute("y", y);
      this.tip.textContent = `${this.named(this.tokens, query)} → ${this.named(this.keys, key)}: ${percent(level)}`;
      const room = this.svg.clientWidth - this.tip.offsetWidth;
      this.tip.style.left = `${clamp(x, 0, Math.max(0, room))}px`;
      this.tip.style.top = `${y - 30}px`;
    }

    sentence(query, row) {
      const order = Array.from(row.keys()).filter((key) => row[key] !== MASKED && row[key] > 0);
      order.sort((a, b) => row[b] - row[a]);
      const parts = order
        .slice(0, NAMED_KEYS)
        .map((key) => `${this.named(this.keys, key)} ${percent(row[key])}`);
      const others = order.slice(NAMED_KEYS);
      if (others.length) {
        const rest = others.reduce((sum, key) => sum + row[key], 0);
        parts.push(`${others.length} ${others.length === 1 ? "other" : "others"} ${percent(rest)}`);
      }
      const masked = row.reduce((count, level) => count + (level === MASKED), 0);
      const hidden = masked ? ` (${masked} masked)` : "";
      const name = `${this.headName(this.layer, this.head)}: ${this.named(this.tokens, query)}`;
      return `${name} attends to${parts.length ? ": " : " nothing"}${parts.join(", ")}${hidden}`;
    }

    // --- Choosing --------------------------------------------------------------------------------

    choose(choice, target) {
      Object.assign(this, choice);
      this.show();
      target.focus({ preventScroll: true });
      target.scrollIntoView({ block: "nearest", inline: "nearest" });
    }

    onHeadKey(event) {
      const last = this.heads - 1;
      const jumps = { Home: [0, -last], End: [0, last] };
      const step = STEPS[event.key] || jumps[event.key];
      if (!step) return;
      event.preventDefault();
      const layer = clamp(this.layer + step[0], 0, this.layers.length - 1);
      const head = clamp(this.head + step[1], 0, last);
      this.choose({ layer, head }, this.thumbnails[layer][head]);
    }

    onQueryKey(event) {
      const last = this.tokens.length - 1;
      const jumps = { Home: [0, -last], End: [0, last] };
      const step = STEPS[event.key] || jumps[event.key];
      if (!step) return;
      event.preventDefault();
      const query = clamp(this.query + step[0] + step[1], 0, last);
      this.choose({ query }, this.queries[query]);
    }

    onPointer(event, chosen = false) {
      const box = this.canvas.getBoundingClientRect();
      const key = Math.floor((event.clientX - box.left) / this.cell);
      const query = Math.floor((event.clientY - box.top) / this.cell);
      const inside = key >= 0 && query >= 0 && key < this.keys.length && query < this.tokens.length;
      if (inside && chosen) this.query = query;
      this.show(...(inside ? [query, key] : []));
    }
  }

  async function start(root) {
    root.dataset.started = "true";
    const data = JSON.parse(root.querySelector(".cu-data").textContent);
    try {
      new Explorer(root, data, await inflate(data.weights));
    } catch (error) {
      const note = `The picture stays still here: ${error.message}`; // an old browser
      root.querySelector(".cu-static").append(element("p", { role: "status" }, note));
    }
    root.dataset.drawn = "true";
  }

  document.querySelectorAll(".cu-explore:not([data-started])").forEach(start);
})();
