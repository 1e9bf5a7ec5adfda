// A program file as exporters take it: names, weights and test cases from the file, and plans for the
// targets that they print.
import { byteSize, type TypedArray, viewTypedArray } from '../../base/dtype.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import { type Sizes, sizeAt, substituteSizes } from '../../base/size-expression.ts';
import { type GraphRecord, type NodeRecord, parseGraphRecord } from '../../graph/record.ts';
import type { Target } from '../../ir/kernel.ts';
import type { Device } from '../../runtime/device.ts';
import type {
  ExportedCase,
  ExportedInput,
  ExportedLimits,
  ExportedPlan,
  ExportedWeight,
  ExportRequest,
  RunOnce,
} from '../../runtime/export.ts';
import type { Plan } from '../../runtime/plan.ts';
import { runOnceOn } from '../../runtime/run-once.ts';
import { bytesOf } from '../io/host-array.ts';
import type { ByteInput } from '../io/byte-source.ts';
import { SafetensorsFile } from '../io/safetensors.ts';
import { compileFile } from '../lite/compile-file.ts';
import { headerOf, tensorIn } from '../lite/file.ts';
import { completeSizes, type GuardRecord, isState, type ModelHeader } from '../lite/header.ts';

export interface ExportableOptions {
  /** Sizes of declared dimensions; those left out are as recorded. */
  readonly sizes?: Sizes;
  /** Of the exported program; default: the name in the file. */
  readonly name?: string;
  /**
   * Numbers in the program that become inputs: `{ learningRate: 0.1 }` makes an input of every float32
   * number that is 0.1, or, if there is none, of every float64 one.
   */
  readonly numbers?: Readonly<Record<string, number>>;
}

/** Numbers of the program that are one input. */
interface NumberInput {
  readonly name: string;
  readonly dtype: 'float32' | 'float64';
  readonly slots: readonly number[];
}

/** Bytes of a tensor, with its form. */
type FileTensor = Omit<ExportedWeight, 'binding' | 'update'>;

export class ExportableProgram {
  readonly name: string;
  readonly header: ModelHeader;
  readonly weights: ReadonlyMap<string, FileTensor>;
  readonly #sizes: Sizes;
  readonly #graph: GraphRecord;
  readonly #tests: readonly (readonly Uint8Array[])[];
  readonly #numbers: readonly NumberInput[];
  /** Limits of inputs, which replace the guards of these numbers. */
  readonly #limits = new Map<number, ExportedLimits>();
  readonly #ahead = new Set<number>();

  private constructor(
    header: ModelHeader,
    weights: ReadonlyMap<string, FileTensor>,
    tests: readonly (readonly Uint8Array[])[],
    { sizes = {}, name = header.name, numbers = {} }: ExportableOptions,
  ) {
    this.name = name;
    this.header = header;
    this.weights = weights;
    this.#tests = tests;
    this.#sizes = completeSizes('export', header, sizes);
    this.#graph = parseGraphRecord(substituteSizes(header.graph, this.#sizes));
    this.#numbers = Object.entries(numbers).map(([input, value]) =>
      this.#numberInput(input, value),
    );
    header.guards.forEach((guard, i) => this.#checkAhead(guard, i));
  }

  /**
   * Reads a program file.
   *
   * @throws FormatError for a file that is damaged or holds no program; ArgumentError for dimensions
   *   and numbers that are not there.
   * @param of what sizes are for: 'all' of the options, or 'some', where another program has the others.
   */
  static async read(
    source: ByteInput,
    options: ExportableOptions = {},
    of: 'all' | 'some' = 'all',
  ): Promise<ExportableProgram> {
    const file = await SafetensorsFile.open(source);
    try {
      const header = headerOf(file);
      const { sizes = {} } = options;
      const own = header.dimensions.filter(({ name }) => sizes[name] !== undefined);
      const known = Object.fromEntries(own.map(({ name }) => [name, sizes[name] as number]));
      const read = async (name: string): Promise<FileTensor> => {
        const { data, dtype, shape } = await tensorIn(file, name);
        return { name, dtype, shape, bytes: bytesOf(data).slice() };
      };
      const weights = new Map<string, FileTensor>();
      for (const leaf of header.leaves) {
        if (leaf.kind === 'weight') weights.set(leaf.tensor, await read(leaf.tensor));
      }
      const tests: Uint8Array[][] = [];
      for (const { inputs } of header.tests) {
        const values: Uint8Array[] = [];
        for (const name of inputs) values.push((await read(name)).bytes);
        tests.push(values);
      }
      return new ExportableProgram(header, weights, tests, {
        ...options,
        sizes: of === 'all' ? sizes : known,
      });
    } finally {
      await file.close();
    }
  }

  /** Whether runs change weights. */
  get stateful(): boolean {
    return this.header.leaves.some(isState);
  }

  #numberInput(name: string, value: number): NumberInput {
    const nodes = this.#graph.nodes.filter(({ op }) => op === 'scalar');
    // Rates that are divided by a correction are float64.
    for (const dtype of ['float32', 'float64'] as const) {
      const slots = this.header.scalars.flatMap((scalar, slot) =>
        scalar.kind === 'number' && scalar.value === value && nodes[slot]?.dtype === dtype
          ? [slot]
          : [],
      );
      if (slots.length > 0) return { name, dtype, slots };
    }
    throw new ArgumentError(`no float number of ${this.name} is ${value} (for '${name}')`, {
      op: 'export',
    });
  }

  /** A guard of an input as it is given becomes a limit of that input, checked before a run. */
  #checkAhead(guard: GuardRecord, number: number): void {
    const { outputs, nodes } = this.#graph;
    const { guards, leaves } = this.header;
    const least = nodes[outputs[outputs.length - 2 * guards.length + 2 * number] ?? -1];
    const watched = watchedInput(this.#graph, least);
    if (watched === null || watched.node.dtype !== guard.dtype) return;
    const leaf = leaves[nodes.filter(({ op }) => op === 'input').indexOf(watched.node)];
    // One set of limits for each input: further guards stay in the program.
    if (leaf?.kind !== 'input' || this.#limits.has(leaf.input)) return;
    this.#limits.set(leaf.input, { ...this.#limitsOf(guard), except: watched.except });
    this.#ahead.add(number);
  }

  #limitsOf({ least, above, below }: GuardRecord): ExportedLimits {
    const at = (size: GuardRecord['least']): number | undefined =>
      size === undefined ? undefined : sizeAt(size, this.#sizes);
    return { least: at(least), above: at(above), below: at(below) };
  }

  /** @param prepared whether packed weights may take the place of those in the file. */
  planFor(target: Target, prepared: boolean): ExportedPlan {
    const options = { without: this.#ahead, prepared };
    const compiled = compileFile(this.header, this.#sizes, target, options);
    return { target, plan: compiled.plan, prepared: compiled.prepared };
  }

  /**
   * The request for exporters. Its test cases have no outputs yet: `casesOn` computes them.
   *
   * @param shared weights of other programs that use the same block.
   */
  request(
    runOnce: RunOnce,
    shared: ReadonlyMap<string, FileTensor> | null = null,
  ): Omit<ExportRequest, 'testCases'> {
    const { leaves, scalars, draws, guards, outputs } = this.header;
    // Outputs, next values of weights, then least and most of guards; leaves come before all.
    const rootBindings = this.#rootBindings();
    const bindingOf = (root: number): number => rootBindings[root] ?? -1;
    const updated = leaves.filter(isState).length;
    const remaining = guards.flatMap((guard, i) => (this.#ahead.has(i) ? [] : [guard]));
    const list = shared ?? this.weights;
    return {
      name: this.name,
      runOnce,
      inputs: [...this.#inputs(), ...this.#numberInputs()],
      outputs: outputs.map(({ name, dtype, shape }, i) => {
        const sizes = shape.map((size) => sizeAt(size, this.#sizes));
        return { name, dtype, shape: sizes, binding: bindingOf(i) };
      }),
      weights: [...list.values()].map((tensor): ExportedWeight => {
        const binding = leaves.findIndex(
          (leaf) => leaf.kind === 'weight' && leaf.tensor === tensor.name,
        );
        const leaf = leaves[binding];
        if (leaf?.kind !== 'weight') return tensor;
        const update = isState(leaf) ? bindingOf(leaf.update) : binding;
        return { ...tensor, binding, ...(update === binding ? {} : { update }) };
      }),
      allWeights: shared !== null,
      scalars: Float64Array.from(scalars, (each) =>
        each.kind === 'number' ? sizeAt(each.value, this.#sizes) : 0,
      ),
      checks: remaining.map((guard, i) => {
        const { dtype, nothing } = guard;
        const [least, most] = [0, 1].map((k) => bindingOf(outputs.length + updated + 2 * i + k));
        const limits = this.#limitsOf(guard);
        return { least: least as number, most: most as number, dtype, limits, nothing };
      }),
      random: {
        draws: draws.map((count) => sizeAt(count, this.#sizes)),
        slots: scalars.flatMap((each, slot) =>
          each.kind === 'random' ? [{ slot, draw: each.draw, word: each.word }] : [],
        ),
      },
    };
  }

  /** Binding of each root of the plans, which is the same for all targets. */
  #rootBindings(): number[] {
    const { leaves, guards, outputs } = this.header;
    const guarded = guards.length > this.#ahead.size;
    const updated = leaves.filter(isState).length;
    const count = outputs.length + updated + 2 * (guards.length - this.#ahead.size);
    let next = leaves.length;
    return Array.from({ length: count }, (_, root) => {
      const leaf = leaves.findIndex((each) => each.kind === 'weight' && each.update === root);
      return leaf >= 0 && !guarded ? leaf : next++;
    });
  }

  #inputs(): ExportedInput[] {
    return this.header.inputs.map(({ name, dtype, shape }, i) => {
      const binding = this.header.leaves.findIndex(
        (leaf) => leaf.kind === 'input' && leaf.input === i,
      );
      const limits = this.#limits.get(i);
      return {
        name,
        dtype,
        shape: shape.map((size) => sizeAt(size, this.#sizes)),
        ...(binding < 0 ? {} : { binding }),
        ...(limits === undefined ? {} : { limits }),
      };
    });
  }

  #numberInputs(): ExportedInput[] {
    return this.#numbers.map((each) => ({ ...each, shape: [] }));
  }

  /**
   * The file's test cases, one after the other, with the outputs that a device computes of them.
   * Cases for other sizes are left out.
   */
  async casesOn(device: Device, target: Target): Promise<ExportedCase[]> {
    const runOnce = runOnceOn(device);
    const { plan } = this.planFor(target, false);
    const request = this.request(runOnce);
    const state = new Map<number, Uint8Array>();
    for (const { binding, bytes } of request.weights) {
      if (binding !== undefined) state.set(binding, bytes);
    }
    const numbers = this.#numbers.map(({ slots, dtype }) => {
      const value = request.scalars[slots[0] as number] as number;
      return dtype === 'float64' ? Float64Array.of(value) : Float32Array.of(value);
    });
    let block = 0;
    const cases: ExportedCase[] = [];
    for (const test of this.#tests) {
      const fits = test.every((bytes, i) => bytes.length === lengthOf(request.inputs[i]));
      if (!fits) continue;
      const inputs = [...test, ...numbers.map((each) => bytesOf(each as TypedArray))];
      const scalars = request.scalars.slice();
      const starts = (request.random?.draws ?? []).map((words) => {
        const start = block;
        block += Math.ceil(words / 4);
        return start;
      });
      // Seed 0; a block's number has two words, of which small ones need one.
      for (const { slot, draw, word } of request.random?.slots ?? []) {
        scalars[slot] = word === 2 ? (starts[draw] ?? 0) : 0;
      }
      const outputs = await runCase(runOnce, plan, request, { inputs, state, scalars });
      cases.push({ inputs, outputs });
    }
    return cases;
  }
}

/** Ops whose result has the least and the most of what goes in. */
const SAME_VALUES: ReadonlySet<string> = new Set(['min', 'reshape', 'copy', 'detach']);

/**
 * The input whose least value a node is; `except` is a value that may stand in it as well, such as that
 * of labels to ignore: the graph puts another in its place.
 */
function watchedInput(
  { nodes }: GraphRecord,
  start: NodeRecord | undefined,
): { readonly node: NodeRecord; readonly except: number | undefined } | null {
  const inputOf = (node: NodeRecord | undefined, i: number): NodeRecord | undefined =>
    nodes[node?.inputs?.[i] ?? -1];
  let node = start;
  let except: number | undefined;
  for (;;) {
    if (node === undefined) return null;
    if (node.op === 'input') return { node, except };
    if (SAME_VALUES.has(node.op)) node = inputOf(node, 0);
    else if (node.op === 'select' && except === undefined) {
      const [condition, kept] = [inputOf(node, 0), inputOf(node, 2)];
      const value = inputOf(condition, 1)?.attrs?.['value'];
      const replaces = condition?.op === 'equal' && inputOf(condition, 0) === kept;
      if (!replaces || typeof value !== 'number' || inputOf(node, 1)?.op !== 'full') return null;
      except = value;
      node = kept;
    } else return null;
  }
}

async function runCase(
  runOnce: RunOnce,
  plan: Plan,
  { inputs: ports, outputs, weights }: Omit<ExportRequest, 'testCases'>,
  {
    inputs,
    state,
    scalars,
  }: {
    readonly inputs: readonly Uint8Array[];
    readonly state: Map<number, Uint8Array>;
    readonly scalars: Float64Array;
  },
): Promise<readonly Uint8Array[]> {
  const contents: (Uint8Array | null)[] = plan.bindings.map((_, i) => state.get(i) ?? null);
  ports.forEach(({ binding, limits, dtype, name }, i) => {
    const bytes = inputs[i] as Uint8Array;
    if (limits !== undefined) checkLimits(name, bytes, dtype, limits);
    if (binding !== undefined) contents[binding] = bytes;
  });
  const next = weights.flatMap(({ binding, update }) => {
    if (binding === undefined) return [];
    if (update !== undefined) return [{ binding, from: update }];
    return plan.bindings[binding]?.access === 'read' ? [] : [{ binding, from: binding }];
  });
  const wanted = [...outputs.map(({ binding }) => binding), ...next.map(({ from }) => from)];
  const results = await runOnce(plan, contents, scalars, wanted);
  next.forEach(({ binding }, i) => state.set(binding, results[outputs.length + i] as Uint8Array));
  return results.slice(0, outputs.length);
}

function checkLimits(
  name: string,
  bytes: Uint8Array,
  dtype: ExportedInput['dtype'],
  { least = -Infinity, above = -Infinity, below = Infinity, except }: ExportedLimits,
): void {
  const { buffer, byteOffset, byteLength } = bytes.slice();
  const values = viewTypedArray(dtype, buffer, byteOffset, byteLength / byteSize(dtype));
  const within = (value: number): boolean => value >= least && value > above && value < below;
  if (values.every((value) => value === except || within(value))) return;
  throw new FormatError(`a test case has values of '${name}' that are out of range`);
}

function lengthOf(input: ExportedInput | undefined): number {
  return input === undefined ? -1 : sizeOf(input.shape) * byteSize(input.dtype);
}
