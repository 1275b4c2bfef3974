// The replay of merges. It starts every replay on the page that has not been started.
(() => {
  "use strict";

  function start(root) {
    const frames = JSON.parse(root.querySelector(".cu-data").textContent);
    const slider = root.querySelector("input");
    const said = root.querySelector(".cu-said");
    const pieces = root.querySelector(".cu-pieces");

    function show() {
      const [words, shown] = frames[Number(slider.value)];
      said.textContent = words;
      slider.setAttribute("aria-valuetext", words);
      pieces.replaceChildren(
        ...shown.map(([word, tone]) => {
          const span = document.createElement("span");
          span.dataset.tone = tone;
          span.textContent = word;
          return span;
        }),
      );
    }

    slider.addEventListener("input", show);
    // JupyterLab has commands on the arrow keys.
    root.addEventListener("keydown", (event) => event.stopPropagation());
    slider.hidden = false;
    show();
  }

  for (const root of document.querySelectorAll('[data-view="replay"]:not([data-started])')) {
    root.dataset.started = "yes";
    start(root);
  }
})();
