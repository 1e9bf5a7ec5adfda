// The table of all operators: families of rows, found by domain, name and version.
import type { Operator } from '../operator.ts';
import { activations } from './activations.ts';
import { convolutions } from './convolution.ts';
import { attentions } from './attention.ts';
import { controlFlow } from './control-flow.ts';
import { creation } from './creation.ts';
import { detection } from './detection.ts';
import { elementwise } from './elementwise.ts';
import { indexing } from './indexing.ts';
import { linearAlgebra } from './linear-algebra.ts';
import { losses } from './losses.ts';
import { normalizations } from './normalization.ts';
import { ownOperators } from './own.ts';
import { pooling } from './pooling.ts';
import { quantization } from './quantization.ts';
import { recurrents } from './recurrent.ts';
import { reductions } from './reduction.ts';
import { regions } from './regions.ts';
import { resizing } from './resize.ts';
import { sequences } from './sequences.ts';
import { shaping } from './shape.ts';
import { signals } from './signal.ts';
import { strings } from './strings.ts';
import { training } from './training.ts';

/** Every row, by family. */
export const OPERATORS: readonly Operator[] = [
  ...elementwise,
  ...activations,
  ...reductions,
  ...shaping,
  ...indexing,
  ...creation,
  ...linearAlgebra,
  ...convolutions,
  ...pooling,
  ...normalizations,
  ...controlFlow,
  ...sequences,
  ...losses,
  ...recurrents,
  ...quantization,
  ...resizing,
  ...regions,
  ...detection,
  ...signals,
  ...attentions,
  ...strings,
  ...training,
  ...ownOperators,
];

/** The latest version of the standard's operators that the rows describe. */
export const MAX_OPSET = 28;

const BY_NAME = new Map<string, Operator[]>();
for (const operator of OPERATORS) {
  const key = `${operator.domain}:${operator.name}`;
  const rows = BY_NAME.get(key);
  if (rows === undefined) BY_NAME.set(key, [operator]);
  else rows.push(operator);
}

/** The row for an operator in a version, or why there is none. */
export function findOperator(
  domain: string,
  name: string,
  opset: number,
): Operator | { readonly reason: string } {
  const rows = BY_NAME.get(`${domain}:${name}`);
  const full = domain === '' ? name : `${domain}.${name}`;
  if (rows === undefined) return { reason: `there is no operator ${full}` };
  if (domain === '' && opset > MAX_OPSET) {
    return { reason: `operators of version ${opset}, ${MAX_OPSET} is the latest known` };
  }
  const row = rows.find(({ since, until }) => since <= opset && opset <= until);
  if (row !== undefined) return row;
  const since = Math.min(...rows.map((other) => other.since));
  return { reason: `${full} of version ${opset}, it is known from version ${since} on` };
}
