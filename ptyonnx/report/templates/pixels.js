"use strict";
// From the page's data to coloured images: unpack planes, map values to colours.
// Written by pixels.py: byte planes, deflated, in base64; value = low + step (high - low) / 65535.

const STEPS = 65535;
const KNOWN = { a: 1, b: 2 };

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpackedPlane(plane, count) {
  const bytes = await unpacked(plane.bytes);
  const values = new Float64Array(count);
  const step = (plane.high - plane.low) / STEPS;
  for (let i = 0; i < count; i += 1) values[i] = plane.low + (bytes[i] * 256 + bytes[count + i]) * step;
  return values;
}

function wrapped(phase) {
  return phase - 2 * Math.PI * Math.round(phase / (2 * Math.PI));
}

// Values of A, B and B - A; NaN where they are not known.
async function unpackedQuantity(data, name) {
  const count = data.width * data.height;
  const known = await unpacked(data.known);
  const base = await unpackedPlane(data[name].base, count);
  const difference = await unpackedPlane(data[name].difference, count);
  const planes = { a: new Float64Array(count), b: new Float64Array(count), difference };
  for (let i = 0; i < count; i += 1) {
    const b = base[i] + difference[i];
    planes.a[i] = known[i] & KNOWN.a ? base[i] : NaN;
    planes.b[i] = known[i] & KNOWN.b ? (name === "phase" ? wrapped(b) : b) : NaN;
    if (known[i] !== (KNOWN.a | KNOWN.b)) difference[i] = NaN;
  }
  return planes;
}

function colourTable(hexadecimal) {
  const table = new Uint8Array(hexadecimal.length / 2);
  for (let i = 0; i < table.length; i += 1) table[i] = parseInt(hexadecimal.slice(2 * i, 2 * i + 2), 16);
  return table;
}

// A canvas of the image's own size; unknown pixels stay transparent.
function coloured(values, width, height, table, [low, high]) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const last = table.length / 3 - 1;
  const scale = high > low ? (last + 1) / (high - low) : 0;
  for (let i = 0; i < values.length; i += 1) {
    if (Number.isNaN(values[i])) continue;
    const index = scale ? Math.min(last, Math.max(0, Math.floor((values[i] - low) * scale))) : last >> 1;
    image.data[4 * i] = table[3 * index];
    image.data[4 * i + 1] = table[3 * index + 1];
    image.data[4 * i + 2] = table[3 * index + 2];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// Round numbers between two ends, both included where they are round.
function roundSteps(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * (1 - 1e-9));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) found.push(i * step);
  return { step, found };
}

function shortNumber(value, step) {
  const tiny = step * 1e-6;
  if (Math.abs(value) < tiny) return "0";
  const digits = Math.max(0, -Math.floor(Math.log10(step * (1 + 1e-9))));
  const text = step < 1e-3 || step >= 1e5 ? value.toExponential(Math.max(0, Math.floor(Math.log10(Math.abs(value) / step) + 1e-9))) : value.toFixed(digits);
  return text.replace("e-", "e−").replace("e+", "e").replace(/^-/, "−");
}
