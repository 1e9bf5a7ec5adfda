// Functions that are being turned into bodies of loops and branches: what is made meanwhile belongs
// to the body and is never computed on its own.
import type { Node } from './node.ts';

/** A body under construction. */
export interface Body {
  /** The number of the iteration, uint32 of shape []; null in a branch, which has none. */
  readonly iteration: (() => Node) | null;
}

const open: Body[] = [];

/** Bodies that are being built, the innermost last. */
export function openBodies(): readonly Body[] {
  return open;
}

/** Runs `build` with what it makes belonging to `body`. */
export function inBody<T>(body: Body, build: () => T): T {
  open.push(body);
  try {
    return build();
  } finally {
    open.pop();
  }
}
