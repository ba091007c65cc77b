// The canvas to paint on. `element`, `props` and `watch` come from gradio; props.value is the picture as a data URL.
const canvas = element.querySelector("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const { width, height } = canvas;
const size = element.querySelector(".size");
const UNDONE = 30;  // most strokes that can be undone
let tool = "brush", color = null, last = null;
let beginning = null;  // what the eraser brings back
const before = [];  // pictures before each stroke

function press(buttons, chosen) {
  for (const button of buttons) button.setAttribute("aria-pressed", button === chosen);
}

const classes = [...element.querySelectorAll(".class")], tools = [...element.querySelectorAll(".tool")];
for (const button of classes) {
  button.onclick = () => {
    color = button.dataset.color.match(/\w\w/g).map((digits) => parseInt(digits, 16));
    press(classes, button);
    if (tool === "eraser") tools[0].click();
  };
}
for (const button of tools) button.onclick = () => { tool = button.dataset.tool; press(tools, button); };
classes[0].click();

const whole = () => pen.getImageData(0, 0, width, height);
const offset = (x, y) => 4 * (y * width + x);

function put(picture, x, y) {
  const at = offset(x, y);
  const source = tool === "eraser" ? beginning.data.subarray(at, at + 3) : color;
  picture.data.set(source, at);
  picture.data[at + 3] = 255;
}

function disc(picture, x, y) {
  const radius = size.value / 2, reach = Math.ceil(radius);
  for (let j = Math.max(0, y - reach); j <= Math.min(height - 1, y + reach); j++)
    for (let i = Math.max(0, x - reach); i <= Math.min(width - 1, x + reach); i++)
      if ((i - x) ** 2 + (j - y) ** 2 < radius ** 2 || (i === x && j === y)) put(picture, i, j);
}

function stroke(from, to) {
  const picture = whole(), steps = Math.max(1, Math.abs(to.x - from.x), Math.abs(to.y - from.y));
  for (let k = 0; k <= steps; k++)
    disc(picture, Math.round(from.x + (to.x - from.x) * k / steps), Math.round(from.y + (to.y - from.y) * k / steps));
  pen.putImageData(picture, 0, 0);
}

function fill({ x, y }) {
  const picture = whole(), old = picture.data.slice(offset(x, y), offset(x, y) + 3);
  const same = (at) => old.every((value, k) => picture.data[at + k] === value);
  if (color.every((value, k) => value === old[k])) return;
  const waiting = [[x, y]];
  while (waiting.length) {
    const [i, j] = waiting.pop();
    if (i < 0 || j < 0 || i >= width || j >= height || !same(offset(i, j))) continue;
    put(picture, i, j);
    waiting.push([i + 1, j], [i - 1, j], [i, j + 1], [i, j - 1]);
  }
  pen.putImageData(picture, 0, 0);
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  const along = (offset, length, pixels) => Math.min(pixels - 1, Math.max(0, Math.floor(offset / length * pixels)));
  return { x: along(event.clientX - box.left, box.width, width), y: along(event.clientY - box.top, box.height, height) };
}

const tell = () => { props.value = canvas.toDataURL("image/png"); };
function remember() {
  before.push(whole());
  if (before.length > UNDONE) before.shift();
}

canvas.onpointerdown = (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  remember();
  last = place(event);
  if (tool === "fill") fill(last); else stroke(last, last);
};
canvas.onpointermove = (event) => {
  if (last === null || tool === "fill") return;
  const now = place(event);
  stroke(last, now);
  last = now;
};
canvas.onpointerup = canvas.onpointercancel = () => {
  if (last !== null) tell();
  last = null;
};
element.querySelector(".undo").onclick = () => {
  if (!before.length) return;
  pen.putImageData(before.pop(), 0, 0);
  tell();
};
element.querySelector(".save").onclick = () => {
  const link = document.createElement("a");
  link.download = "painted.png";
  link.href = canvas.toDataURL("image/png");
  link.click();
};

// Show a picture, enlarged or reduced without mixing colours, and begin anew with it.
function begin(url, then) {
  const picture = new Image();
  picture.onload = () => {
    pen.imageSmoothingEnabled = false;
    pen.fillStyle = "black";
    pen.fillRect(0, 0, width, height);
    pen.drawImage(picture, 0, 0, width, height);
    beginning = whole();
    then();
  };
  picture.src = url;
}
element.querySelector("input[type=file]").onchange = (event) => {
  const [file] = event.target.files;
  if (!file) return;
  remember();
  begin(URL.createObjectURL(file), tell);
  event.target.value = "";
};
beginning = whole();
begin(props.value, () => {});
watch("value", () => { remember(); begin(props.value, () => {}); });
