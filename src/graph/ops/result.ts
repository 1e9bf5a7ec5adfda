// What loops and choices give: nodes that stand for one of their results each, and for what is
// promised inside them.
import { type DType, isFloat } from '../../base/dtype.ts';
import { ShapeError } from '../../base/errors.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, type Region } from '../op.ts';
import { reshape } from './broadcast.ts';
import { concat } from './slicing.ts';

function regionsOf(node: Node): readonly Region[] {
  const { lower } = node.op;
  return lower.kind === 'region' ? lower.regions(node.attrs) : [];
}

const resultOp = defineOp({
  name: 'result',
  summary: 'one of the results of a loop or choice',
  attrs: { index: 'int' },
  infer: ([node], { index }) => {
    const [region] = node === undefined ? [] : regionsOf(node);
    const result = region?.results[index];
    if (region === undefined || result === undefined) {
      throw new ShapeError(`there is no result ${index}`, { op: 'result' });
    }
    const { body, trips } = region;
    if (result.kind === 'final') return body.parameters[result.carry]!;
    const { shape, dtype } = result.value;
    return { shape: result.kind === 'once' ? shape : [trips, ...shape], dtype };
  },
  // The reverse walk hands the gradients of all results to the region's rule.
  gradient: () => [],
  lower: { kind: 'result' },
  reference: () => new Float64Array(0),
  samples: () => [],
});

/** A result of a loop or choice. */
export function resultOf(region: Node, index: number): Node {
  const node = makeNode(resultOp, [region], { index });
  if (!isFloat(node.dtype)) node.tracked = false;
  return node;
}

/** Of the numbers that a guard watches: a node inside the body, whose promise they are to keep. */
const promisedIn = new WeakMap<Node, Node>();

const guardOp = defineOp({
  name: 'guard',
  summary: 'numbers that tell whether a promise inside a loop or choice was kept',
  attrs: {},
  infer: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  gradient: { nonDifferentiable: 'it is a check' },
  lower: { kind: 'result' },
  promise: {
    watched: (node) => node.inputs[0]!,
    check: ({ min, max }, node) => {
      const promise = promisedIn.get(node);
      const { least, most } = nothingWatched(node.dtype);
      // What was never computed promises nothing.
      if (min === most && max === least) return;
      promise?.op.promise?.check({ min, max }, promise);
    },
    stated: (node) => {
      const promise = promisedIn.get(node);
      const stated = promise?.op.promise?.stated(promise) ?? null;
      if (stated === null) return null;
      const { least, most } = nothingWatched(node.dtype);
      return { ...stated, nothing: [least, most] };
    },
  },
  reference: () => new Float64Array(0),
  samples: () => [],
});

/** Least and most of no numbers. */
export function nothingWatched(dtype: DType): { readonly least: number; readonly most: number } {
  if (isFloat(dtype)) return { least: Infinity, most: -Infinity };
  return dtype === 'uint32'
    ? { least: 2 ** 32 - 1, most: 0 }
    : { least: 2 ** 31 - 1, most: -(2 ** 31) };
}

/** What bodies of a region promise, as nodes that promise it of its results. */
export function guardsOf(region: Node): Node[] {
  return regionsOf(region).flatMap(({ body }) =>
    body.guards.map(({ results, promise }) => {
      const ends = results.map((index) => reshape(resultOf(region, index), [1]));
      const guard = makeNode(guardOp, [concat(ends)], {});
      promisedIn.set(guard, promise);
      return guard;
    }),
  );
}
