/** Milliseconds by a clock that all processes of one machine share. */
export const now = () => Number(process.hrtime.bigint()) / 1e6;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves at this instant of {@link now}. */
export const until = (instant) => sleep(Math.max(0, instant - now()));

/** What comes first: the promise's value, or `instead` when so much time has gone by. */
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
