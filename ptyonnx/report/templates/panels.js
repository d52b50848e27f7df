// One panel: an image, or two with a divider, in the view that all panels share.

const HATCH = 8; // pixels of the screen
const PRINTED = { width: 720, css: 200 }; // pixels of a canvas on paper, and how many of the screen they stand for
const BAR_FRACTION = 0.25; // of the image's width, at most
const MOST_ZOOM_PIXELS = 12; // of the image, that remain visible at least

let printing = false;
const view = { zoom: 1, x: 0, y: 0, divider: 0.5 }; // x, y: image pixel in the middle

// Shapes between 3:5 and 11:5; longer scans leave space beside them.
function panelAspect(data) {
  return Math.min(2.2, Math.max(0.6, data.width / data.height));
}

function largestZoom(data) {
  return Math.max(1, Math.min(data.width, data.height) / MOST_ZOOM_PIXELS);
}

function fitted(canvas, data) {
  return Math.min(canvas.width / data.width, canvas.height / data.height);
}

// Where the image lies on a canvas: pixels of the canvas per pixel of the image, and its corner.
function placed(canvas, data) {
  const scale = fitted(canvas, data) * view.zoom;
  return { scale, left: canvas.width / 2 - view.x * scale, top: canvas.height / 2 - view.y * scale };
}

// Keep the image in sight: its edge never leaves the panel's, and what fits lies in the middle.
function confined(canvas, data) {
  const scale = fitted(canvas, data) * view.zoom;
  const within = (middle, size, room) => (size * scale <= room + 1e-6 ? size / 2 : Math.min(size - room / scale / 2, Math.max(room / scale / 2, middle)));
  view.x = within(view.x, data.width, canvas.width);
  view.y = within(view.y, data.height, canvas.height);
}

function hatched(context, ratio) {
  const size = Math.round(HATCH * ratio);
  const tile = new OffscreenCanvas(size, size);
  const pen = tile.getContext("2d");
  pen.fillStyle = "#c9c9c9";
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = "#a9a9a9";
  pen.lineWidth = size / 6;
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift - 1, size + 1);
    pen.lineTo(shift + size + 1, -1);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

function sized(canvas, data) {
  const ratio = window.devicePixelRatio || 1;
  const shown = canvas.clientWidth && !printing;
  const width = shown ? Math.round(canvas.clientWidth * ratio) : PRINTED.width;
  const height = Math.round(width / panelAspect(data));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return width / (shown ? canvas.clientWidth : PRINTED.css);
}

// images: one, or two of which the second is shown right of the divider.
function drawPanel(canvas, data, images) {
  const ratio = sized(canvas, data);
  confined(canvas, data);
  const context = canvas.getContext("2d");
  const { scale, left, top } = placed(canvas, data);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const edges = [Math.max(0, left), Math.max(0, top), Math.min(canvas.width, left + data.width * scale), Math.min(canvas.height, top + data.height * scale)];
  context.fillStyle = hatched(context, ratio);
  context.fillRect(edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]);
  const divider = Math.round(view.divider * canvas.width);
  const parts = images.length === 1 ? [[0, canvas.width]] : [[0, divider], [divider, canvas.width]];
  context.imageSmoothingEnabled = scale < 1;
  context.imageSmoothingQuality = "high";
  images.forEach((image, index) => {
    context.save();
    context.beginPath();
    context.rect(parts[index][0], 0, parts[index][1] - parts[index][0], canvas.height);
    context.clip();
    context.drawImage(image, left, top, data.width * scale, data.height * scale);
    context.restore();
  });
  if (images.length === 2) drawDivider(context, divider, ratio);
  drawScaleBar(context, data, scale, ratio);
}

function drawDivider(context, x, ratio) {
  const { width, height } = context.canvas;
  context.fillStyle = "#ffffff";
  context.fillRect(x - 1.5 * ratio, 0, 3 * ratio, height);
  context.fillStyle = "#101214";
  context.fillRect(x - 0.5 * ratio, 0, ratio, height);
  context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const room = 26 * ratio;
  if (x > room) drawWord(context, "A", Math.max(x - 8 * ratio, room - 8 * ratio), 9 * ratio, "right", ratio);
  if (x < width - room) drawWord(context, "B", x + 8 * ratio, 9 * ratio, "left", ratio);
}

function drawWord(context, word, x, y, align, ratio) {
  context.textAlign = align;
  context.lineWidth = 3.5 * ratio;
  context.lineJoin = "round";
  context.strokeStyle = "#101214";
  context.strokeText(word, x, y);
  context.fillStyle = "#ffffff";
  context.fillText(word, x, y);
}

// 1, 2 or 5 times a power of ten, in metres where the size of a pixel is known.
function drawScaleBar(context, data, scale, ratio) {
  const pixel = data.pixelSize || data.binning;
  const visible = Math.min(context.canvas.width / scale, data.width);
  const room = BAR_FRACTION * visible * pixel;
  const power = 10 ** Math.floor(Math.log10(room));
  const length = [5, 2, 1].map((factor) => factor * power).find((size) => size <= room * (1 + 1e-9));
  const width = (length / pixel) * scale;
  const x = 12 * ratio + Math.max(0, (context.canvas.width - data.width * scale) / 2);
  const y = context.canvas.height - 16 * ratio - Math.max(0, (context.canvas.height - data.height * scale) / 2);
  context.fillStyle = "#101214";
  context.fillRect(x - ratio, y - ratio, width + 2 * ratio, 6 * ratio);
  context.fillStyle = "#ffffff";
  context.fillRect(x, y, width, 4 * ratio);
  context.font = `600 ${12.5 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  drawWord(context, data.pixelSize ? lengthText(length) : `${Number(length.toPrecision(3))} px`, x, y - 4 * ratio, "left", ratio);
}

function lengthText(metres) {
  const units = [[1e-3, "mm"], [1e-6, "µm"], [1e-9, "nm"], [1e-12, "pm"]];
  const [size, unit] = units.find(([least]) => metres >= least * (1 - 1e-9)) || units[3];
  return `${Number((metres / size).toPrecision(3))} ${unit}`;
}

function drawBar(bar, table, [low, high]) {
  const canvas = bar.querySelector("canvas");
  const context = canvas.getContext("2d");
  const last = table.length / 3 - 1;
  for (let row = 0; row < canvas.height; row += 1) {
    const index = 3 * Math.round(((canvas.height - 1 - row) / (canvas.height - 1)) * last);
    context.fillStyle = `rgb(${table[index]} ${table[index + 1]} ${table[index + 2]})`;
    context.fillRect(0, row, 1, 1);
  }
  const { step, found } = high > low ? roundSteps(low, high, 8) : { step: 1, found: [] };
  bar.querySelector(".ticks").replaceChildren(...found.map((value) => {
    const tick = document.createElement("span");
    tick.textContent = shortNumber(value, step);
    tick.style.top = `${(100 * (high - value)) / (high - low)}%`;
    return tick;
  }));
}
