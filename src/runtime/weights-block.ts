// The block that holds all weights of an exported program: a header by which the code knows that they
// are its own, then each weight at a multiple of 64 bytes. Little-endian.
import { hashBytes } from '../base/hash.ts';
import type { ResolvedExport } from './export.ts';

/** Bytes before the first weight. */
export const WEIGHTS_HEADER = 64;
const ALIGNMENT = 64;

/** First bytes of every block. */
export const WEIGHTS_MAGIC = 'TENGENW1';
/** Tells the byte order. */
export const WEIGHTS_ORDER = 0x01020304;

/** Where each field of the header stands. */
export const WEIGHTS_FIELDS = { magic: 0, order: 8, layout: 12, bytes: 16 } as const;

export function alignWeights(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
}

/** A number that differs between blocks of different layouts. */
export function layoutHash({ target, weights, weightsBytes }: ResolvedExport): number {
  // What is computed of weights is in the order that this target's kernels want.
  const order = weights.some(({ tensor }) => tensor === null) ? target : null;
  const facts = weights.map(({ tensor, offset, bytes }) => [
    tensor === null ? '' : `${tensor.name} ${tensor.dtype} ${tensor.shape.join('x')}`,
    offset,
    bytes.byteLength,
  ]);
  const text = JSON.stringify([order, facts, weightsBytes]);
  return hashBytes(new TextEncoder().encode(text));
}

/** The block with all weights in it; empty if there are none. */
export function weightsBlock(resolved: ResolvedExport): Uint8Array {
  const block = new Uint8Array(resolved.weightsBytes);
  if (block.length === 0) return block;
  const view = new DataView(block.buffer);
  block.set(new TextEncoder().encode(WEIGHTS_MAGIC), WEIGHTS_FIELDS.magic);
  view.setUint32(WEIGHTS_FIELDS.order, WEIGHTS_ORDER, true);
  view.setUint32(WEIGHTS_FIELDS.layout, layoutHash(resolved), true);
  view.setBigUint64(WEIGHTS_FIELDS.bytes, BigInt(block.length), true);
  for (const { offset, bytes } of resolved.weights) block.set(bytes, offset);
  return block;
}
