// What convolutions and pools share: sizes per space axis, and inputs without a batch axis.
import { checkInteger } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';

/** One number for all space axes, or one for each. */
export type Sizes = number | readonly number[];

/** One integer of at least `low` for each of `rank` space axes. */
export function perAxis(
  op: string,
  name: string,
  given: Sizes,
  rank: number,
  low: number,
): readonly number[] {
  const list = Array.isArray(given) ? (given as readonly number[]) : [given as number];
  if (list.length !== rank && list.length !== 1) {
    throw new ArgumentError(`${name} has ${list.length} numbers for ${rank} space axes`, { op });
  }
  const sizes = list.length === rank ? list : new Array<number>(rank).fill(list[0] as number);
  for (const size of sizes) checkInteger(op, name, size, low);
  return sizes;
}

/** [before0, after0, before1, ...] of symmetric padding. */
export function bothSides(padding: readonly number[]): number[] {
  return padding.flatMap((amount) => [amount, amount]);
}

/** Throws ShapeError unless `shape` is channels and space axes, with or without a batch axis before. */
export function checkSpaceAxes(op: string, shape: Shape, spaceRank: number): void {
  const lead = shape.length - spaceRank;
  if (lead === 1 || lead === 2) return;
  throw new ShapeError(
    `takes [batch, channels, ${spaceRank} space axes] or without batch, got ${formatShape(shape)}`,
    { op },
  );
}

/** `x` with a batch axis, and how to take it off a result again. */
export function withBatch(
  op: string,
  node: Node,
  spaceRank: number,
): { batched: Node; unbatch: (result: Node) => Node } {
  checkSpaceAxes(op, node.shape, spaceRank);
  if (node.shape.length === spaceRank + 2) return { batched: node, unbatch: (result) => result };
  return {
    batched: ops.reshape(node, [1, ...node.shape]),
    unbatch: (result) => ops.reshape(result, result.shape.slice(1)),
  };
}
