"use strict";
/* Zoom and search for the flame graphs, folds open for printing. The page is complete without it. */
document.querySelectorAll("svg.flame").forEach(function (graph) {
  var boxes = Array.prototype.map.call(graph.querySelectorAll("svg.f"), function (el) {
    return { el: el, x: parseFloat(el.getAttribute("x")), w: parseFloat(el.getAttribute("width")), y: parseFloat(el.getAttribute("y")), name: el.querySelector("title").textContent };
  });
  function zoom(to) {
    var k = 100 / to.w;
    boxes.forEach(function (b) {
      var above = b.y < to.y && b.x <= to.x + 1e-3 && b.x + b.w >= to.x + to.w - 1e-3;
      var inside = b.y >= to.y && b.x >= to.x - 1e-3 && b.x + b.w <= to.x + to.w + 1e-3;
      b.el.style.display = above || inside ? "" : "none";
      b.el.classList.toggle("dim", above);
      b.el.setAttribute("x", above ? "0%" : (b.x - to.x) * k + "%");
      b.el.setAttribute("width", above ? "100%" : b.w * k + "%");
      var text = b.el.querySelector("text");
      if (!text && inside && b.w * k > 1.2) {
        text = document.createElementNS("http://www.w3.org/2000/svg", "text");
        text.setAttribute("x", "5"); text.setAttribute("y", "13");
        text.textContent = b.name.split("\n")[0];
        b.el.appendChild(text);
      }
    });
    graph.setAttribute("data-zoom", to.name.split("\n")[0]);
  }
  boxes.forEach(function (b) { b.el.addEventListener("click", function () { zoom(b); }); });
  var tools = document.createElement("div"), field = document.createElement("input"), reset = document.createElement("button"), found = document.createElement("span");
  tools.className = "tools";
  field.type = "search"; field.placeholder = "Search functions"; field.setAttribute("aria-label", "Search functions");
  reset.type = "button"; reset.textContent = "Whole graph";
  reset.addEventListener("click", function () { zoom(boxes[0]); });
  field.addEventListener("input", function () {
    var wanted = field.value.toLowerCase(), spans = [], share = 0, end = -1;
    boxes.forEach(function (b) {
      var hit = wanted !== "" && b.name.toLowerCase().indexOf(wanted) >= 0;
      b.el.classList.toggle("hit", hit);
      if (hit) { spans.push(b); }
    });
    spans.sort(function (p, q) { return p.x - q.x; }).forEach(function (b) {
      share += Math.max(0, b.x + b.w - Math.max(b.x, end)); end = Math.max(end, b.x + b.w);
    });
    found.textContent = wanted === "" ? "" : share.toFixed(1) + " % of the time";
  });
  tools.append(field, reset, found);
  graph.parentNode.insertBefore(tools, graph);
});
window.addEventListener("beforeprint", function () { document.querySelectorAll("details").forEach(function (d) { d.open = true; }); });
