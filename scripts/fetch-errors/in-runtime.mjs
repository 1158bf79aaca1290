// Asks for each of the given URLs, in whatever runtime this is, and prints what is thrown: what of an error can be seen.
const cases = JSON.parse(process.argv[2]);
const DEPTH = 4;

function seen(error, depth = 0) {
  const names = new Set(Object.getOwnPropertyNames(error));
  for (const name of ["name", "message", "code", "errno", "syscall", "cause"]) if (name in error) names.add(name);
  const fields = {};
  for (const name of names) {
    const value = error[name];
    if (["string", "number", "boolean"].includes(typeof value)) fields[name] = value;
    if (value instanceof Error && depth < DEPTH) fields[name] = seen(value, depth + 1);
  }
  for (const name of ["stack", "line", "column", "originalLine", "originalColumn", "sourceURL"]) delete fields[name];
  return { class: error.constructor.name, fields };
}

const found = {};
for (const [name, url] of Object.entries(cases)) {
  const signal = AbortSignal.timeout(name === "no answer in time" ? 300 : 30_000);
  try {
    const response = await fetch(url, { method: "POST", body: new URLSearchParams({ refresh_token: "r" }), signal });
    await response.text();
    throw new Error(`${name}: nothing was thrown`);
  } catch (error) {
    found[name] = seen(error);
  }
}
console.log(JSON.stringify(found));
