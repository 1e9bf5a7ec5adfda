// Waiting for the garbage collector without guessing how long it takes.

/** Collections after which what is still alive is held by somebody. */
const ROUNDS = 20;

/**
 * Collects garbage and lets finalizers run until `done`, or, without it, a few times over. What `done`
 * waits for never comes if something holds it: then this returns all the same, and the test compares.
 */
export async function collected(done?: () => boolean): Promise<void> {
  if (globalThis.gc === undefined)
    throw new Error('run with --expose-gc, as vitest.config.ts says');
  for (let round = 0; round < (done === undefined ? 5 : ROUNDS); round++) {
    globalThis.gc();
    // Finalizers are tasks of their own, after the present one.
    await new Promise<void>((resolve) => setTimeout(resolve, 5));
    if (done?.() === true) return;
  }
}
