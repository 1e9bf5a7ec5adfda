// What a file says about the inputs and outputs of a graph.
import type { DType } from '../../../base/dtype.ts';
import type { DimensionProto, Draft, ValueInfoProto } from '../messages.ts';
import { elementCode } from '../tensor-data.ts';
import { fitPolynomial, formatPolynomial, type Grid, isFixed, type Varying } from './sizes.ts';

/** An axis of an input or output: a number, or in words what it follows. */
function dimension(grid: Grid, sizes: Varying): Draft<DimensionProto> {
  if (isFixed(sizes)) return { dimValue: sizes[0] };
  const polynomial = fitPolynomial(grid, sizes);
  return polynomial === null ? {} : { dimParam: formatPolynomial(polynomial, grid.symbols) };
}

/** A value with its type; sizes that vary are named by what they follow. */
export function valueInfo(
  name: string,
  dtype: DType | 'int64',
  grid: Grid,
  sizes: readonly Varying[],
): Draft<ValueInfoProto> {
  const dim = sizes.map((size) => dimension(grid, size));
  return { name, type: { tensorType: { elemType: elementCode(dtype), shape: { dim } } } };
}
