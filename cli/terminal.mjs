/** What commands print, and how. */
import Table from "cli-table3";

/** Wide enough for every table here, and no wider than what people paste into issues. */
const WIDTH = 80;

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

/** Colours a text, if that is wanted: on a terminal, and without `NO_COLOR` (https://no-color.org). @param {keyof typeof CODES} style */
export function paint(style, text, stream = process.stdout) {
  return stream.isTTY && !process.env.NO_COLOR ? `\u001b[${CODES[style]}m${text}\u001b[0m` : text;
}

export const say = (text) => process.stdout.write(`${text}\n`);
export const sayJson = (value) => say(JSON.stringify(value, null, 2));

/** Of a foreign name no control character may reach a terminal, nor what hides or reorders text. */
export const printable = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "\uFFFD");

/** Says on standard error what went wrong, in one line. */
export const complain = (message) =>
  process.stderr.write(`${paint("red", "error:", process.stderr)} ${printable(message)}\n`);

/** A plain table. The columns of `widths` have that many characters, and what is longer is cut. */
export function table(head, rows, widths) {
  const chars = Object.fromEntries(
    "top top-mid top-left top-right bottom bottom-mid bottom-left bottom-right left left-mid mid mid-mid right right-mid"
      .split(" ")
      .map((name) => [name, ""]),
  );
  const columns = widths.map((width) => width + 1);
  const spare = (process.stdout.columns ?? WIDTH) - columns.reduce((sum, width) => sum + width, 0);
  // The first column names the thing.
  columns[0] += Math.max(0, Math.min(spare, 60));
  const drawn = new Table({
    head,
    chars: { ...chars, middle: "" },
    style: { head: [], border: [], "padding-left": 0, "padding-right": 1 },
    colWidths: columns,
  });
  drawn.push(...rows.map((row) => row.map((cell) => printable(cell))));
  const [first, ...others] = drawn
    .toString()
    .split("\n")
    .map((line) => line.trimEnd());
  return [paint("bold", first), ...others].join("\n");
}

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1000],
];

/** A duration for people, such as `3 h`; milliseconds below a second. */
export function duration(ms) {
  const [name, size] = UNITS.find(([, size]) => ms >= size) ?? ["ms", 1];
  return `${Math.floor(ms / size)} ${name}`;
}

/** An instant for people, such as `in 3 h` or `3 h ago`. */
export const relative = (at, now) => (at >= now ? `in ${duration(at - now)}` : `${duration(now - at)} ago`);

/** Breaks a text into lines of so many characters, at spaces. */
export function wrap(text, width = WIDTH) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = `${lines.at(-1)} ${word}`.trim();
    if (line.length <= width || lines.at(-1) === "") lines[lines.length - 1] = line;
    else lines.push(word);
  }
  return lines;
}
