// What happens when somebody moves, types or prints.

const ZOOM_STEP = 1.25;
const PAN_STEP = 0.12; // of what is visible
const WHEEL_PAUSE_MS = 250; // a wheel that scrolls the page does not begin to zoom under way
const LEAST_RANGE = 1e-3; // of the largest difference: lower end of its slider
const GRIP = { mouse: 9, touch: 24 }; // pixels of the screen on either side of the divider at which it can be dragged

for (const choice of document.querySelectorAll('[name="theme"]')) {
  choice.addEventListener("change", () => { document.documentElement.dataset.theme = choice.value; });
}

class Quantity {
  constructor(figure, data, planes, colours) {
    const name = figure.dataset.quantity;
    Object.assign(this, { figure, data, planes, colours, name });
    this.own = data[name];
    this.table = name === "amplitude" ? "gray" : this.own.cyclic ? "twilight" : "viridis";
    this.panels = [...figure.querySelectorAll(".panel")].map((panel) => ({
      kind: panel.dataset.kind,
      view: panel.querySelector(".view"),
      canvas: panel.querySelector(".view canvas"),
      bar: panel.querySelector(".bar"),
    }));
    this.ends = { low: figure.querySelector('[data-end="low"]'), high: figure.querySelector('[data-end="high"]') };
    this.slider = figure.querySelector('[data-action="difference"]');
    this.automatic();
    this.startDifference();
  }

  automatic() {
    const cyclic = this.table === "twilight";
    this.range = cyclic ? [-Math.PI, Math.PI] : [...this.own.range];
    this.showEnds();
    this.recolour();
  }

  showEnds() {
    this.ends.low.value = Number(this.range[0].toPrecision(4));
    this.ends.high.value = Number(this.range[1].toPrecision(4));
  }

  typed() {
    const [low, high] = [this.ends.low.valueAsNumber, this.ends.high.valueAsNumber];
    const good = Number.isFinite(low) && Number.isFinite(high) && low < high;
    for (const end of Object.values(this.ends)) end.setAttribute("aria-invalid", String(!good));
    if (!good) return false;
    this.range = [low, high];
    this.recolour();
    return true;
  }

  recolour() {
    const table = this.colours[this.table];
    const { width, height } = this.data;
    this.images = { ...this.images };
    for (const side of ["a", "b"]) this.images[side] = coloured(this.planes[side], width, height, table, this.range);
    for (const panel of this.panels) if (panel.kind !== "difference") drawBar(panel.bar, table, this.range);
  }

  startDifference() {
    const { largest, usual } = this.own;
    this.slider.disabled = largest === 0;
    const fraction = largest > 0 ? Math.log(Math.max(usual / largest, LEAST_RANGE) / LEAST_RANGE) / -Math.log(LEAST_RANGE) : 1;
    this.slider.value = Math.round(100 * fraction);
    this.slid();
  }

  slid() {
    const { largest } = this.own;
    const limit = largest * LEAST_RANGE ** (1 - this.slider.valueAsNumber / 100);
    const text = largest > 0 ? `± ${Number(limit.toPrecision(3))}${this.name === "phase" ? " rad" : ""}` : "the two are equal";
    this.slider.parentElement.querySelector("output").textContent = text.replace("e-", "e−");
    this.slider.setAttribute("aria-valuetext", text);
    const range = largest > 0 ? [-limit, limit] : [-1, 1];
    this.images.difference = coloured(this.planes.difference, this.data.width, this.data.height, this.colours.RdBu_r, range);
    for (const panel of this.panels) if (panel.kind === "difference") drawBar(panel.bar, this.colours.RdBu_r, range);
  }

  draw() {
    for (const { kind, canvas } of this.panels) {
      drawPanel(canvas, this.data, kind === "wipe" ? [this.images.a, this.images.b] : [this.images[kind]]);
    }
  }

  said(index) {
    const number = (value, sign = false) => (Number.isNaN(value) ? "unknown" : (sign && value >= 0 ? "+" : "") + value.toPrecision(4)).replace("-", "−");
    const { a, b, difference } = this.planes;
    return `${this.name} A ${number(a[index])}, B ${number(b[index])}, B − A ${number(difference[index], true)}${this.name === "phase" ? " rad" : ""}`;
  }
}

class Viewer {
  constructor(root, data, quantities) {
    Object.assign(this, { root, data, quantities });
    Object.assign(view, { x: data.width / 2, y: data.height / 2 });
    this.divider = root.querySelector("#divider");
    this.pointers = new Map();
    this.scrolled = -Infinity;
    this.label();
    this.listen();
    this.drawNow(); // with the previews hidden, a frame without images must not be shown
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.waiting = false;
    for (const quantity of this.quantities) quantity.draw();
    this.root.querySelector("#zoom").textContent = `${Number(view.zoom.toPrecision(2))}×`;
    for (const { view: element } of this.panels()) element.classList.toggle("zoomed", view.zoom > 1);
  }

  panels() {
    return this.quantities.flatMap((quantity) => quantity.panels);
  }

  label() {
    const { a, b } = this.data.labels;
    const words = { wipe: `A: ${a}  ·  B: ${b}`, a: `A: ${a}`, b: `B: ${b}`, difference: "B − A" };
    for (const line of this.root.querySelectorAll("[data-label]")) line.textContent = line.title = words[line.dataset.label];
  }

  // Zoom so that the image's pixel under a place of a canvas (in its pixels) stays there.
  zoom(factor, canvas, at) {
    const before = placed(canvas, this.data);
    const place = at || [canvas.width / 2, canvas.height / 2];
    const pixel = [(place[0] - before.left) / before.scale, (place[1] - before.top) / before.scale];
    view.zoom = Math.min(largestZoom(this.data), Math.max(1, view.zoom * factor));
    if (view.zoom < 1.001) view.zoom = 1;
    const scale = fitted(canvas, this.data) * view.zoom;
    view.x = pixel[0] + (canvas.width / 2 - place[0]) / scale;
    view.y = pixel[1] + (canvas.height / 2 - place[1]) / scale;
    this.draw();
  }

  pan(x, y) {
    view.x += x;
    view.y += y;
    this.draw();
  }

  reset() {
    Object.assign(view, { zoom: 1, x: this.data.width / 2, y: this.data.height / 2 });
    this.draw();
  }

  visibleCanvas() {
    return this.panels().map((panel) => panel.canvas).find((canvas) => canvas.clientWidth > 0);
  }

  moveDivider(fraction) {
    view.divider = Math.min(1, Math.max(0, fraction));
    this.divider.value = 100 * view.divider;
    this.divider.setAttribute("aria-valuetext", `A on ${Math.round(100 * view.divider)} % of the width`);
    this.draw();
  }

  readout(column, row) {
    const { width, height, binning, pixelSize } = this.data;
    if (!(column >= 0 && row >= 0 && column < width && row < height)) return;
    const place = `row ${row * binning}, column ${column * binning}${pixelSize ? ` (${lengthText(row * pixelSize)}, ${lengthText(column * pixelSize)})` : ""}`;
    const values = this.quantities.map((quantity) => quantity.said(row * width + column));
    this.root.querySelector("#readout").textContent = [place, ...values].join(";  ");
  }

  listen() {
    this.divider.addEventListener("input", () => this.moveDivider(this.divider.valueAsNumber / 100));
    for (const choice of this.root.querySelectorAll('[name="mode"]')) {
      choice.addEventListener("change", () => {
        this.root.dataset.mode = choice.value;
        this.draw();
      });
    }
    const actions = { in: () => this.zoom(ZOOM_STEP, this.visibleCanvas()), out: () => this.zoom(1 / ZOOM_STEP, this.visibleCanvas()), reset: () => this.reset() };
    for (const button of this.root.querySelectorAll(".zoom [data-action]")) button.addEventListener("click", actions[button.dataset.action]);
    for (const quantity of this.quantities) this.listenToRanges(quantity);
    for (const panel of this.panels()) this.listenToPanel(panel);
    window.addEventListener("scroll", () => { this.scrolled = performance.now(); }, { passive: true });
    window.addEventListener("beforeprint", () => { printing = true; this.drawNow(); });
    window.addEventListener("afterprint", () => { printing = false; this.drawNow(); });
    new ResizeObserver(() => this.draw()).observe(this.root);
  }

  listenToRanges(quantity) {
    for (const end of Object.values(quantity.ends)) end.addEventListener("input", () => quantity.typed() && this.draw());
    quantity.figure.querySelector('[data-action="range"]').addEventListener("click", () => { quantity.automatic(); quantity.typed(); this.draw(); });
    quantity.slider.addEventListener("input", () => { quantity.slid(); this.draw(); });
    const colours = quantity.figure.querySelector('[data-action="colours"]');
    if (!colours) return;
    colours.value = quantity.table;
    colours.addEventListener("change", () => { quantity.table = colours.value; quantity.automatic(); this.draw(); });
  }

  listenToPanel({ kind, view: element, canvas }) {
    const ratio = () => canvas.width / canvas.clientWidth;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * ratio(), (event.clientY - box.top) * ratio()];
    };
    const onDivider = (event) => kind === "wipe" && Math.abs(at(event)[0] - view.divider * canvas.width) < (event.pointerType === "touch" ? GRIP.touch : GRIP.mouse) * ratio();
    element.addEventListener("wheel", (event) => {
      const outwards = event.deltaY > 0;
      const passing = performance.now() - this.scrolled < WHEEL_PAUSE_MS;
      if (!event.ctrlKey && (passing || (outwards && view.zoom === 1))) return; // the page scrolls
      event.preventDefault();
      this.zoom(2 ** (-Math.sign(event.deltaY) * Math.min(1, Math.abs(event.deltaY) / 240)), canvas, at(event));
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, at(event));
      this.wiping = this.pointers.size === 1 && onDivider(event);
      element.classList.add("dragging");
    });
    element.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      const where = placed(canvas, this.data);
      this.readout(Math.floor((x - where.left) / where.scale), Math.floor((y - where.top) / where.scale));
      element.classList.toggle("at-divider", this.wiping || onDivider(event));
      if (!this.pointers.has(event.pointerId)) return;
      this.drag(event.pointerId, [x, y], canvas);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, (event) => {
        this.pointers.delete(event.pointerId);
        this.wiping = false;
        element.classList.remove("dragging");
      });
    }
    element.addEventListener("keydown", (event) => this.key(event, canvas));
  }

  // One pointer moves the image or the divider, two zoom.
  drag(pointer, place, canvas) {
    const before = this.pointers.get(pointer);
    this.pointers.set(pointer, place);
    if (this.wiping) {
      this.moveDivider(place[0] / canvas.width);
      return;
    }
    const { scale } = placed(canvas, this.data);
    const others = [...this.pointers].filter(([name]) => name !== pointer);
    if (others.length === 0) this.pan((before[0] - place[0]) / scale, (before[1] - place[1]) / scale);
    else {
      const [, other] = others[0];
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      this.zoom(apart(place) / apart(before), canvas, [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2]);
    }
  }

  key(event, canvas) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
    const step = (PAN_STEP * Math.min(canvas.width, canvas.height)) / placed(canvas, this.data).scale;
    const meanings = {
      "+": () => this.zoom(ZOOM_STEP, canvas), "=": () => this.zoom(ZOOM_STEP, canvas), "-": () => this.zoom(1 / ZOOM_STEP, canvas),
      0: () => this.reset(),
      ArrowLeft: () => this.pan(-step, 0), ArrowRight: () => this.pan(step, 0), ArrowUp: () => this.pan(0, -step), ArrowDown: () => this.pan(0, step),
    };
    if (!Object.hasOwn(meanings, event.key) || (event.key.startsWith("Arrow") && view.zoom === 1)) return;
    event.preventDefault();
    meanings[event.key]();
    confined(canvas, this.data);
    this.readout(Math.floor(view.x), Math.floor(view.y));
  }
}

async function start() {
  const stored = document.getElementById("pixels");
  if (!stored) return;
  const data = JSON.parse(stored.textContent);
  const tables = JSON.parse(document.getElementById("colours").textContent);
  const colours = Object.fromEntries(Object.entries(tables).map(([name, text]) => [name, colourTable(text)]));
  const figures = [...document.querySelectorAll("[data-quantity]")];
  const quantities = await Promise.all(figures.map(async (figure) => new Quantity(figure, data, await unpackedQuantity(data, figure.dataset.quantity), colours)));
  const root = document.querySelector(".images");
  root.dataset.ready = "true"; // replaces the previews by the panels, which then have a size
  new Viewer(root, data, quantities);
}

start();
