// Programs for declared dimensions: a function is taken down at several sizes, and what follows the sizes
// becomes expressions of them.
import { ArgumentError, TraceError } from '../../base/errors.ts';
import type { Sizes } from '../../base/size-expression.ts';
import { SizeConflict, unify } from '../../graph/symbolic.ts';
import type { DimensionRecord } from '../lite/header.ts';
import { standIn } from '../tensor/handle.ts';
import { mapLeaves } from '../transform/tree.ts';
import { DeclaredInputs, Dim, TensorSpec } from '../transform/tracing/dims.ts';
import { type Capture, capture, type CaptureOptions } from './capture.ts';

type Fn = (...args: readonly unknown[]) => unknown;

/** The size that a dimension has where nothing else is said: the first declared, or the least. */
function usualSize({ sizes, min }: Dim): number {
  return sizes?.[0] ?? Math.max(min, 1);
}

/** Inputs as they were declared: arguments, and what is said of their sizes. */
export class ProgramInputs {
  readonly declared: DeclaredInputs;
  /** The arguments, with zeros in the places of specs. */
  readonly args: readonly unknown[];
  /** Whether tensors with values were given. */
  readonly hasValues: boolean;

  constructor(inputs: readonly unknown[]) {
    const specs = mapLeaves(inputs, (leaf) => (leaf instanceof TensorSpec ? leaf : null));
    this.declared = new DeclaredInputs(specs as readonly unknown[]);
    let given = 0;
    this.args = mapLeaves(inputs, (leaf) => {
      if (!(leaf instanceof TensorSpec)) return leaf;
      given++;
      return zerosOf(leaf);
    }) as readonly unknown[];
    this.hasValues = given === 0;
  }

  get dimensions(): DimensionRecord[] {
    return this.declared.dims.map((dim) => {
      return { name: dim.name, min: dim.min, max: dim.max, size: usualSize(dim) };
    });
  }

  /** Sizes that programs are compiled for ahead: the usual ones, and those of an only dimension. */
  get ahead(): Sizes[] {
    const { dims } = this.declared;
    const [only] = dims;
    if (dims.length === 1 && only?.sizes) return only.sizes.map((size) => ({ [only.name]: size }));
    return [Object.fromEntries(dims.map((dim) => [dim.name, usualSize(dim)]))];
  }
}

function zerosOf({ shape, dtype }: TensorSpec) {
  const sizes = shape.map((size) => (size instanceof Dim ? usualSize(size) : size));
  return standIn(sizes, dtype);
}

/**
 * Takes down a function at all sizes of its dimensions.
 *
 * @throws TraceError if something follows a size in a way that is no formula of it.
 */
export function captureAtAllSizes(fn: Fn, inputs: ProgramInputs, options: CaptureOptions): Capture {
  const { declared, args } = inputs;
  if (declared.dims.length === 0) return capture(fn, args, options);
  const first = Object.fromEntries(
    declared.dims.map((dim) => [dim.name, dim.samples(usualSize(dim))[0] ?? usualSize(dim)]),
  );
  const all = [first, ...declared.otherSizes(first)];
  if (all.length === 1) {
    throw new ArgumentError(
      'a dimension has fewer than three sizes, which tell nothing of others',
      {
        op: 'dump',
        hint: 'declare more sizes, or dump one file for each',
      },
    );
  }
  const captures = all.map((sizes) => capture(fn, declared.standIns(args, sizes), options));
  const [base] = captures as [Capture];
  try {
    const unified = unify(
      declared.dims.map(({ name }) => name),
      captures.map(({ weights: _weights, states: _states, ...value }, i) => ({
        sizes: all[i] as Sizes,
        value,
      })),
    );
    const { weights, states } = base;
    return { ...(unified as Omit<Capture, 'weights' | 'states'>), weights, states };
  } catch (error) {
    if (!(error instanceof SizeConflict)) throw error;
    throw new TraceError(
      `${options.name} does not follow its dimensions by a formula: ${describe(base, error.path)} is ${error.text}`,
      { op: 'dump', hint: 'compute sizes from shapes by +, - and *, and do not branch on them' },
    );
  }
}

/** What stands at a place of a recording, for people. */
function describe({ graph }: Capture, [part, list, index, ...rest]: SizeConflict['path']): string {
  const node = part === 'graph' && list === 'nodes' ? graph.nodes[Number(index)] : undefined;
  if (node === undefined)
    return [part, list, index, ...rest].filter((key) => key !== undefined).join('.');
  return `${rest.join('.')} of node ${index}, ${node.op},`;
}
