// Adapters of the family `linalg`.

import { optionsOf, textOf } from './attributes.ts';
import { call } from './framework.ts';
import type { Adapter, AdapterTable } from './runner.ts';

/** All inputs by position, then what else there is as options. */
function product(name: string): Adapter {
  return (inputs, attrs) => call(name, ...inputs, optionsOf(attrs));
}

export const linalg: AdapterTable = {
  matmul: ([a, b]) => call('matmul', a, b),
  mm: ([a, b]) => call('mm', a, b),
  mv: ([a, b]) => call('mv', a, b),
  dot: ([a, b]) => call('dot', a, b),
  outer: ([a, b]) => call('outer', a, b),
  bmm: ([a, b]) => call('bmm', a, b),
  addmm: product('addmm'),
  addmv: product('addmv'),
  baddbmm: product('baddbmm'),
  einsum: (inputs, attrs) => call('einsum', textOf(attrs, 'equation'), ...inputs),
  linear: ([x, weight, bias]) => call('linear', x, weight, bias),
  bilinear: ([x1, x2, weight, bias]) => call('bilinear', x1, x2, weight, bias),
  tensordot: ([a, b], attrs) => call('tensordot', a, b, attrs['dims']),
  kron: ([a, b]) => call('kron', a, b),
  trace: ([x]) => call('matrixTrace', x),
  cross: ([a, b], attrs) => call('cross', a, b, attrs['dim']),
};
