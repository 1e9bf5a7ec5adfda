// What tests of loops share: a recurrent network, as `scan` sees it and written out.
import { manualSeed, randn, type Tensor } from 'tengen';
import { nativeUnavailable } from '../../src/backends/native/host.ts';

export const DEVICES = ['interp', 'wasm', ...(nativeUnavailable() === null ? ['native'] : [])];

export type Cell = (h: Tensor, x: Tensor) => Tensor;

/** The states of a recurrent network, one after the other. */
export function writtenOut(cell: Cell, h: Tensor, xs: Tensor, reverse = false): Tensor[] {
  const length = xs.shape[0]!;
  const states: Tensor[] = [];
  for (let i = 0; i < length; i++) {
    h = cell(h, xs.at(reverse ? length - 1 - i : i));
    states.push(h);
  }
  return states;
}

export const asList = (x: Tensor): number[] => [...(x.dataSync() as Float32Array)];

/** First state, inputs, and two weights. */
export function network() {
  manualSeed(3);
  return [randn(2, 4), randn(5, 2, 4), randn(4, 4), randn(4, 4)] as const;
}

export const cellOf =
  (w: Tensor, u: Tensor): Cell =>
  (h, x) =>
    x.matmul(w).add(h.matmul(u)).tanh();
