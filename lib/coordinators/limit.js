/**
 * Settles as `promise` does, or rejects with `tooLate()` when that takes longer. What comes later goes to `late`.
 *
 * @template T
 * @param {number} ms
 * @param {Promise<T>} promise
 * @param {() => Error} tooLate
 * @param {(value: T) => void} [late]
 * @returns {Promise<T>}
 */
function within(ms, promise, tooLate, late = () => {}) {
  return new Promise((resolve, reject) => {
    let isOver = false;
    // It may keep the process: somebody waits for the answer, and not for long.
    const timer = setTimeout(
      () => {
        isOver = true;
        reject(tooLate());
      },
      Math.max(1, Math.ceil(ms)),
    );
    promise.then(
      (value) => {
        clearTimeout(timer);
        if (isOver) late(value);
        else resolve(value);
      },
      (error) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}

/** What is left of a time limit that begins now. */
function startLimit(ms) {
  const end = performance.now() + ms;
  return { ms, left: () => end - performance.now() };
}

module.exports = { startLimit, within };
