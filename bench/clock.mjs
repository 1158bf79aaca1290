/** Milliseconds by a clock that all processes of one machine share. */
export const now = () => Number(process.hrtime.bigint()) / 1e6;

/** @param {number} ms */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves at this instant of {@link now}. @param {number} instant */
export const until = (instant) => sleep(Math.max(0, instant - now()));

/**
 * What comes first: the promise's value, or `instead` when so much time has gone by.
 *
 * @template T
 * @param {Promise<T>} promise
 * @param {number} ms
 * @param {T} instead
 * @returns {Promise<T>}
 */
export async function within(promise, ms, instead) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, ms, instead);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
