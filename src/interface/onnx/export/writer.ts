// The graph of a file while it is written: nodes, constants, and sizes that are known at run time only.
import { byteSize, type DType, isFloat } from '../../../base/dtype.ts';
import type { Shape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import { encodeNumbers } from '../../tensor/encode.ts';
import { type AttributeValue, encodeAttribute } from '../encode-attribute.ts';
import type { Draft, FunctionProto, NodeProto, TensorProto } from '../messages.ts';
import { attentionFunction, type AttentionKind, OWN_DOMAIN } from '../own-functions.ts';
import { elementCode, encodeTensor } from '../tensor-data.ts';
import type { ExportPlan } from './options.ts';
import { fitPolynomial, type Grid, isFixed, type Varying } from './sizes.ts';

/** Why something cannot be exported: caught by the export, which lists all of them. */
export class NotExportable extends Error {
  override name = 'NotExportable';
}

/** Where a size is read at run time: an axis of a value. */
export interface SizeSource {
  readonly input: string;
  readonly axis: number;
}

/** A size in each trace, or where it is read. */
export type SizeEntry = Varying | SizeSource;

/** A constant: bytes that are there, or a stored value that is read when the file is written. */
export interface Initializer {
  readonly name: string;
  readonly dtype: DType | 'int64';
  readonly shape: Shape;
  readonly value: Draft<TensorProto> | Node;
}

/** A constant tensor of numbers. */
export function numbersTensor(
  values: ArrayLike<number>,
  dtype: DType | 'int64',
  shape: Shape,
  name?: string,
): Draft<TensorProto> {
  const data =
    dtype === 'int64'
      ? BigInt64Array.from(Array.from(values), BigInt)
      : encodeNumbers('onnx', values, dtype);
  return encodeTensor({ type: dtype, shape, data }, name);
}

export class GraphWriter {
  readonly opset: number;
  /** Whether the file may bring functions along. */
  readonly mayCall: boolean;
  readonly nodes: Draft<NodeProto>[] = [];
  readonly initializers: Initializer[];
  /** Functions that nodes call, by name. */
  readonly functions: Map<string, Draft<FunctionProto>>;
  /** The graph around this one. */
  readonly #around: GraphWriter | null;
  readonly #grid: Grid;
  /** Where the size of each symbol is read from. */
  readonly #sources: readonly SizeSource[];
  readonly #names: Set<string>;
  readonly #counts: Map<string, number>;
  /** Constants and sizes that were written already, by what they are. */
  readonly #known = new Map<string, string>();

  constructor(
    { opset, functions }: Pick<ExportPlan, 'opset' | 'functions'>,
    grid: Grid,
    sources: readonly SizeSource[],
    taken: Iterable<string>,
    around: GraphWriter | null = null,
  ) {
    this.opset = opset;
    this.mayCall = functions;
    this.#around = around;
    // Names are told apart in all graphs of a file; constants lie in the outermost.
    this.initializers = around?.initializers ?? [];
    this.functions = around?.functions ?? new Map();
    this.#names = around === null ? new Set() : around.#names;
    this.#counts = around === null ? new Map() : around.#counts;
    this.#grid = grid;
    this.#sources = sources;
    for (const name of taken) this.#names.add(name);
  }

  /** A graph within a node of this one: it sees all names of this one. */
  nested(): GraphWriter {
    const { opset, mayCall: functions } = this;
    return new GraphWriter({ opset, functions }, this.#grid, this.#sources, [], this);
  }

  /** A name that nothing has yet. */
  fresh(base: string): string {
    let count = this.#counts.get(base) ?? 0;
    let name: string;
    do name = `${base}_${count++}`;
    while (this.#names.has(name));
    this.#counts.set(base, count);
    this.#names.add(name);
    return name;
  }

  /** Adds a node with several outputs; returns their names. An empty input is left out. */
  addMany(
    opType: string,
    inputs: readonly string[],
    count: number,
    attributes: Readonly<Record<string, AttributeValue>> = {},
  ): string[] {
    const name = this.fresh(opType);
    const output = Array.from({ length: count }, (_, i) => (i === 0 ? name : `${name}:${i}`));
    const attribute = Object.entries(attributes).map(([key, value]) => encodeAttribute(key, value));
    this.nodes.push({ name, opType, input: inputs, output, attribute });
    return output;
  }

  /** Adds a node; returns the name of its result. */
  add(
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
  ): string {
    return this.addMany(opType, inputs, 1, attributes)[0] as string;
  }

  /** Adds a call of one of our own functions, which the file brings along. */
  addCall(
    kind: AttentionKind,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>>,
  ): string {
    if (!this.functions.has(kind)) this.functions.set(kind, attentionFunction(kind, this.opset));
    const result = this.add(kind, inputs, attributes);
    const node = this.nodes.pop() as Draft<NodeProto>;
    this.nodes.push({ ...node, domain: OWN_DOMAIN });
    return result;
  }

  // ---- constants ------------------------------------------------------------------------------

  #find(key: string): string | undefined {
    const known = this.#known.get(key);
    return known ?? (this.#around === null ? undefined : this.#around.#find(key));
  }

  #once(key: string, make: () => string): string {
    const known = this.#find(key);
    if (known !== undefined) return known;
    const made = make();
    this.#known.set(key, made);
    return made;
  }

  /** A constant of some numbers. */
  numbers(values: readonly number[], dtype: DType | 'int64', shape: Shape): string {
    if (this.#around !== null) return this.#around.numbers(values, dtype, shape);
    // -0 and 0 are written alike by join.
    const words = values.map((value) => (Object.is(value, -0) ? '-0' : String(value)));
    return this.#once(`${dtype}[${shape.join()}]${words.join()}`, () => {
      const name = this.fresh('constant');
      const value = numbersTensor(values, dtype, shape, name);
      this.initializers.push({ name, dtype, shape, value });
      return name;
    });
  }

  /** A number without axes. */
  number(value: number, dtype: DType | 'int64'): string {
    return this.numbers([value], dtype, []);
  }

  /** A list of int64: axes, sizes, bounds. */
  integers(values: readonly number[]): string {
    return this.numbers(values, 'int64', [values.length]);
  }

  /** A stored value, under the name that is wanted for it if that is free. */
  stored(node: Node, wanted: string | undefined): string {
    const isFree = wanted !== undefined && !this.#names.has(wanted);
    const name = isFree ? wanted : this.fresh(wanted ?? 'constant');
    this.#names.add(name);
    this.initializers.push({ name, dtype: node.dtype, shape: node.shape, value: node });
    return name;
  }

  // ---- sizes that are known at run time -------------------------------------------------------

  /** A size of a value, int64 of shape [1]. */
  sizeOf({ input, axis }: SizeSource): string {
    return this.#once(`size ${axis} of ${input}`, () =>
      this.add('Shape', [input], { start: axis, end: axis + 1 }),
    );
  }

  /** An integer that follows the sizes, int64 of shape [1]. Throws NotExportable if it does not. */
  integer(values: Varying): string {
    if (isFixed(values)) return this.integers([values[0] as number]);
    const polynomial = fitPolynomial(this.#grid, values);
    if (polynomial === null) {
      throw new NotExportable(
        `a number in it is ${values.join(', ')} at ${this.#describePoints()}, which is no sum of products of these sizes`,
      );
    }
    return this.#once(`integer ${values.join()}`, () => {
      const terms = [...polynomial.terms].map(([product, factor]) => {
        const parts = this.#sources.flatMap((source, symbol) =>
          (product & (1 << symbol)) === 0 ? [] : [this.sizeOf(source)],
        );
        if (factor !== 1 || parts.length === 0) parts.push(this.integers([factor]));
        return parts.reduce((a, b) => this.add('Mul', [a, b]));
      });
      const sum = terms.reduce((a, b) => this.add('Add', [a, b]));
      if (polynomial.divisor === 1) return sum;
      return this.add('Div', [sum, this.integers([polynomial.divisor])]);
    });
  }

  #describePoints(): string {
    const { symbols, points } = this.#grid;
    return points
      .map((sizes) => symbols.map((name, i) => `${name}=${sizes[i]}`).join(' '))
      .join(', ');
  }

  /** A list of integers, int64: one constant, or joined from pieces at run time. */
  list(entries: readonly SizeEntry[]): string {
    const pieces: string[] = [];
    let fixed: number[] = [];
    const flush = (): void => {
      if (fixed.length > 0) pieces.push(this.integers(fixed));
      fixed = [];
    };
    for (const entry of entries) {
      if (!('input' in entry) && isFixed(entry)) {
        fixed.push(entry[0] as number);
        continue;
      }
      flush();
      pieces.push('input' in entry ? this.sizeOf(entry) : this.integer(entry));
    }
    flush();
    if (pieces.length === 0) return this.integers([]);
    return pieces.length === 1 ? (pieces[0] as string) : this.add('Concat', pieces, { axis: 0 });
  }

  /** A number without axes that may follow the sizes: itself, or as one over an integer. */
  scalar(values: Varying, dtype: DType): string {
    if (isFixed(values)) return this.number(values[0] as number, dtype);
    const toScalar = (integers: Varying): string => {
      const one = this.add('Reshape', [this.integer(integers), this.integers([])]);
      return this.cast(one, dtype);
    };
    if (values.every(Number.isSafeInteger)) return toScalar(values);
    const inverses = values.map((value) => Math.round(1 / value));
    const isInverse = values.every((value, i) => isClose(value * (inverses[i] as number), 1));
    if (!isFloat(dtype) || !isInverse) {
      throw new NotExportable(
        `a number in it is ${values.join(', ')} at ${this.#describePoints()}, which is neither a size nor one over it`,
      );
    }
    return this.add('Reciprocal', [toScalar(inverses)]);
  }

  // ---- pieces that many conversions share -----------------------------------------------------

  cast(value: string, dtype: DType | 'int64'): string {
    return this.add('Cast', [value], { to: elementCode(dtype) });
  }

  /** `value` under another shape; the sizes may vary. */
  reshape(value: string, source: readonly Varying[], target: readonly Varying[]): string {
    if ([...source, ...target].some((sizes) => sizes.includes(0))) {
      return this.add('Reshape', [value, this.list(target)], { allowzero: 1 });
    }
    const isSame = (a: Varying, b: Varying): boolean => a.every((size, i) => size === b[i]);
    // 0 stands for the input's size at the same place, one -1 for whatever is left.
    const entries: SizeEntry[] = target.map((sizes, axis) => {
      const own = source[axis];
      if (isFixed(sizes)) return sizes;
      return own !== undefined && isSame(own, sizes) ? [0] : sizes;
    });
    const open = entries.flatMap((sizes, i) => (isFixed(sizes as Varying) ? [] : [i]));
    const isKnown = (i: number): boolean =>
      fitPolynomial(this.#grid, target[i] as Varying) !== null;
    const unknown = open.filter((i) => !isKnown(i));
    const rest = unknown[0] ?? open[0];
    if (rest !== undefined) entries[rest] = [-1];
    for (const i of unknown.slice(1)) {
      const axis = source.findIndex((sizes) => isSame(sizes, target[i] as Varying));
      if (axis >= 0) entries[i] = { input: value, axis };
    }
    return this.add('Reshape', [value, this.list(entries)]);
  }
}

function isClose(a: number, b: number): boolean {
  return Math.abs(a - b) <= 1e-6 * Math.max(Math.abs(a), Math.abs(b));
}

/** Bytes that an initializer takes in the file. */
export function initializerBytes({ dtype, shape }: Initializer): number {
  const width = dtype === 'int64' ? 8 : byteSize(dtype);
  return shape.reduce((product, size) => product * size, width);
}
