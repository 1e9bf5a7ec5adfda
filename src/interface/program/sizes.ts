// Programs for declared dimensions: functions are taken down at several sizes, and what follows the sizes
// becomes expressions of them.
import { ArgumentError, ShapeError, TraceError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import {
  CONSTANT,
  formatSize,
  formatSizes,
  isSizeExpression,
  OVER,
  RECIPROCAL,
  type SizeRecord,
  type Sizes,
  sizeAt,
} from '../../base/size-expression.ts';
import type { GraphRecord } from '../../graph/record.ts';
import { SizeConflict, type SymbolicOf, unify } from '../../graph/symbolic.ts';
import type { DimensionRecord, PortRecord } from '../lite/header.ts';
import { SizeFinder } from '../lite/values.ts';
import { standIn } from '../tensor/handle.ts';
import { mapLeaves } from '../transform/tree.ts';
import { DeclaredInputs, Dim, samplePoints, TensorSpec } from '../transform/tracing/dims.ts';
import { type Capture, capture, type CaptureOptions } from './capture.ts';

type Fn = (...args: readonly unknown[]) => unknown;

/** A shape whose sizes may follow dimensions. */
export type SizedShape = readonly SizeRecord[];

/** A function as data, for every size of its dimensions. */
export interface SizedCapture extends Omit<Capture, 'graph' | 'draws'> {
  readonly graph: SymbolicOf<GraphRecord>;
  readonly draws: readonly SizeRecord[];
}

/** `[batch,3]`. */
export function formatSized(shape: SizedShape): string {
  return `[${shape.map(formatSize).join(',')}]`;
}

export function shapeAt(shape: SizedShape, sizes: Sizes): number[] {
  return shape.map((size) => sizeAt(size, sizes));
}

/** A shape for people: sizes that vary are names or terms. */
export function readableShape(shape: SizedShape): readonly (number | string)[] {
  return shape.map((size) => (typeof size === 'number' ? size : formatSize(size)));
}

/** The size that a dimension has where nothing else is said: the first declared, or the least. */
function usualSize({ sizes, min }: Dim): number {
  return sizes?.[0] ?? Math.max(min, 1);
}

// ---- dimensions of a program ------------------------------------------------------------------

/** A dimension, and the size that it has where nothing else is said. */
export interface ProgramDim {
  readonly dim: Dim;
  readonly size: number;
}

/** The dimension that a file declares. */
export function dimensionOf({ name, min, max, size }: DimensionRecord): ProgramDim {
  return { dim: new Dim(name, { min, max }), size };
}

const NO_SIZES: Sizes = {};

/** The dimensions of a program, and sizes at which its surgery is done. */
export class ProgramSizes {
  readonly dims: readonly ProgramDim[];
  /** Sizes at which functions are taken down: one without any if there are no dimensions. */
  readonly samples: readonly Sizes[];

  /**
   * @param step every so many sizes all that is computed of them is whole.
   * @throws ArgumentError if a dimension has too few sizes.
   */
  constructor(op: string, dims: readonly ProgramDim[], step = 1) {
    this.dims = dims;
    const first = Object.fromEntries(dims.map(({ dim, size }) => [dim.name, size]));
    this.samples =
      dims.length === 0
        ? [NO_SIZES]
        : samplePoints(
            dims.map(({ dim }) => dim),
            first,
            step,
          );
    if (this.samples.length === 0) throw tooFewSizes(op);
  }

  get names(): string[] {
    return this.dims.map(({ dim }) => dim.name);
  }

  get records(): DimensionRecord[] {
    return this.dims.map(({ dim: { name, min, max }, size }) => ({ name, min, max, size }));
  }

  /** Sizes that programs are compiled for ahead: the usual ones, and those of an only dimension. */
  get ahead(): Sizes[] {
    const [only] = this.dims;
    if (this.dims.length === 1 && only?.dim.sizes) {
      return only.dim.sizes.map((size) => ({ [only.dim.name]: size }));
    }
    return [Object.fromEntries(this.dims.map(({ dim, size }) => [dim.name, size]))];
  }

  /** Whether two shapes are the same at every size. */
  same(a: SizedShape, b: SizedShape): boolean {
    if (a.length !== b.length) return false;
    return a.every((size, axis) => {
      const other = b[axis] as SizeRecord;
      if (typeof size === 'number' && typeof other === 'number') return size === other;
      return this.samples.every((sizes) => sizeAt(size, sizes) === sizeAt(other, sizes));
    });
  }

  /**
   * The sizes that the shapes of inputs tell.
   *
   * @throws ShapeError for shapes that no sizes give, or sizes that were not declared.
   */
  sizesOf(op: string, ports: readonly PortRecord[], shapes: readonly (readonly number[])[]): Sizes {
    if (this.dims.length === 0) return NO_SIZES;
    const finder = new SizeFinder(op, this.records);
    ports.forEach((port, i) => {
      const shape = shapes[i] as readonly number[];
      const known = formatSizes(finder.sizes);
      if (finder.fits(port, shape)) return;
      const where = known === '' ? '' : ` where ${known}`;
      throw new ShapeError(
        `input '${port.name}': expected ${port.dtype} ${formatSized(port.shape)}${where}, got ${port.dtype} ${formatShape(shape)}`,
        { op },
      );
    });
    for (const { dim } of this.dims) dim.check(op, finder.sizes[dim.name] as number);
    return finder.sizes;
  }

  /** The dimensions that no input tells. */
  untold(ports: readonly PortRecord[]): string[] {
    const [sizes] = this.samples as readonly [Sizes];
    const finder = new SizeFinder('program', this.records);
    for (const port of ports) finder.fits(port, shapeAt(port.shape, sizes));
    return this.names.filter((name) => finder.sizes[name] === undefined);
  }
}

function tooFewSizes(op: string): ArgumentError {
  return new ArgumentError('a dimension has fewer than three sizes, which tell nothing of others', {
    op,
    hint: 'declare more sizes, or make one program for each',
  });
}

/** What sizes stand in data: names of dimensions, and a number of sizes after which all are whole again. */
export class SizesIn {
  readonly names = new Set<string>();
  step = 1;

  add(data: unknown): void {
    if (isSizeExpression(data)) {
      for (const [product, factor] of Object.entries(data.size)) {
        if (product === OVER) {
          if (data.real !== true) this.step = leastCommonMultiple(this.step, factor);
        } else if (product !== CONSTANT) {
          for (const name of product.split('*')) {
            this.names.add(name.startsWith(RECIPROCAL) ? name.slice(RECIPROCAL.length) : name);
          }
        }
      }
    } else if (typeof data === 'object' && data !== null) {
      for (const item of Object.values(data)) this.add(item);
    }
  }
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return (a / x) * b;
}

// ---- recording --------------------------------------------------------------------------------

/** Inputs as they were declared: arguments, and what is said of their sizes. */
export class ProgramInputs {
  readonly declared: DeclaredInputs;
  readonly sizes: ProgramSizes;
  /** The arguments, with zeros in the places of specs. */
  readonly args: readonly unknown[];
  /** Whether tensors with values were given. */
  readonly hasValues: boolean;

  constructor(op: string, inputs: readonly unknown[]) {
    const specs = mapLeaves(inputs, (leaf) => (leaf instanceof TensorSpec ? leaf : null));
    this.declared = new DeclaredInputs(specs as readonly unknown[]);
    let given = 0;
    this.args = mapLeaves(inputs, (leaf) => {
      if (!(leaf instanceof TensorSpec)) return leaf;
      given++;
      return zerosOf(leaf);
    }) as readonly unknown[];
    this.hasValues = given === 0;
    this.sizes = new ProgramSizes(
      op,
      this.declared.dims.map((dim) => ({ dim, size: usualSize(dim) })),
    );
  }

  /** The arguments at some sizes. */
  at(sizes: Sizes): readonly unknown[] {
    return this.sizes.dims.length === 0 ? this.args : this.declared.standIns(this.args, sizes);
  }
}

function zerosOf({ shape, dtype }: TensorSpec) {
  const sizes = shape.map((size) => (size instanceof Dim ? usualSize(size) : size));
  return standIn(sizes, dtype);
}

/** A function and its arguments at some sizes. */
export interface Call {
  readonly fn: Fn;
  readonly args: readonly unknown[];
}

/**
 * Takes down at all sizes of its dimensions what `callAt` says to call.
 *
 * @throws TraceError if something follows a size in a way that is no formula of it.
 */
export function captureAtAllSizes(
  { names, samples }: ProgramSizes,
  callAt: (sizes: Sizes) => Call,
  options: CaptureOptions,
): SizedCapture {
  const captures = samples.map((sizes) => {
    const { fn, args } = callAt(sizes);
    return capture(fn, args, options);
  });
  const [base] = captures as [Capture];
  if (names.length === 0) return base;
  try {
    const unified = unify(
      names,
      captures.map(({ weights: _weights, states: _states, ...value }, i) => ({
        sizes: samples[i] as Sizes,
        value,
      })),
    );
    const { weights, states } = base;
    return { ...(unified as Omit<SizedCapture, 'weights' | 'states'>), weights, states };
  } catch (error) {
    if (!(error instanceof SizeConflict)) throw error;
    const where = describe(base, error.path);
    throw new TraceError(`${options.name} is no program for all sizes: ${where} is ${error.text}`, {
      op: options.op ?? 'dump',
      hint: 'it must compute the same operations at every size, with numbers that are sums of products of the sizes; else give inputs of one size, without dim()',
    });
  }
}

/** What stands at a place of a recording, for people. */
function describe({ graph }: Capture, [part, list, index, ...rest]: SizeConflict['path']): string {
  if (part === 'graph' && list === 'nodes') {
    const node = graph.nodes[Number(index)];
    if (node === undefined) return 'the list of its operations';
    const [field, ...keys] = rest;
    if (field === undefined || field === 'op') return `operation ${index}`;
    const own = `operation ${index}, ${node.op},`;
    if (field === 'shape') {
      return `${keys.length > 0 ? `axis ${keys[0]}` : 'the shape'} of the result of ${own}`;
    }
    return `${keys.join('.') || field} of ${own}`;
  }
  if (part === 'scalars') return list === undefined ? 'the list of its numbers' : 'a number';
  if (part === 'outputs' && list === undefined) return 'the list of its results';
  return [part, list, index, ...rest].filter((key) => key !== undefined).join('.');
}
