// Loads program files and runs them: nothing of the graph is needed for what a file holds compiled.
import { describeValue } from '../../base/checks.ts';
import type { DType } from '../../base/dtype.ts';
import { ArgumentError, DisposedError, FormatError } from '../../base/errors.ts';
import { formatSize, type Sizes, sizeAt } from '../../base/size-expression.ts';
import type { Device } from '../../runtime/device.ts';
import { readProgram, type RunnableProgram } from '../../runtime/stored-program.ts';
import { headerOf, ModelFile, tensorIn } from './file.ts';
import type { ByteInput } from '../io/byte-source.ts';
import { crc32 } from '../io/crc32.ts';
import { bytesOf, type TypedHostArray } from '../io/host-array.ts';
import type { AlgorithmOptions } from '../tuning/algorithms.ts';
import { deviceFor, type DeviceChoice } from './devices.ts';
import { completeSizes, isState, type ModelHeader, type PortRecord } from './header.ts';
import { Loaded } from './loaded.ts';
import {
  describePort,
  encodeInput,
  type InputValue,
  type OutputValue,
  SizeFinder,
} from './values.ts';
import { Weights } from './weights.ts';

export interface LoadOptions extends DeviceChoice {
  /** `strict`: the same bits on every device, at any number of threads. Default `fast`. */
  readonly numerics?: 'fast' | 'strict';
  /** Seed of the model's own random stream, if it draws. Default 0. */
  readonly seed?: number;
  /**
   * How schedules of products and convolutions are chosen, as `setAlgorithms` says. The graph is then
   * compiled on this device, whatever the file holds ready.
   */
  readonly algorithms?: AlgorithmOptions;
}

/** Options of a model, with null where nothing is said of algorithms. */
type Ready = Omit<LoadOptions, 'algorithms'> & { readonly algorithms?: AlgorithmOptions | null };

/** Inputs by name, or the value of the only one. */
export type Inputs = Readonly<Record<string, InputValue>> | InputValue;
/** Results by name. */
export type Outputs = Record<string, OutputValue>;

/** An input or output of a model, for people: sizes that vary are names or terms. */
export interface Port {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly (number | string)[];
}

/** What `check` found. */
export interface CheckReport {
  readonly passed: boolean;
  readonly device: string;
  readonly numerics: 'fast' | 'strict';
  /** For each test case the largest difference of any output, over the largest value in it. */
  readonly cases: readonly { readonly difference: number; readonly tolerance: number }[];
}

/** Programs of a model for different sizes that are kept ready. */
const READY = 8;

/** Compiles what a file does not hold: another device, other numerics or sizes. */
async function compileFor(
  header: ModelHeader,
  sizes: Sizes,
  device: Device,
  numerics: 'fast' | 'strict',
  algorithms: AlgorithmOptions | null,
): Promise<RunnableProgram> {
  const { compileFile } = await import('./compile-file.ts');
  const target = device.target(numerics);
  if (algorithms === null) return compileFile(header, sizes, target);
  const { completeAlgorithms, policyFor } = await import('../tuning/algorithms.ts');
  const policy = policyFor(device, completeAlgorithms('load', algorithms));
  return compileFile(header, sizes, target, { algorithms: policy });
}

/**
 * A model from a program file, on a device.
 *
 * @example no-run: needs a file
 * const model = await load('digits.tengen');
 * const { logits } = await model.run({ image: new Float32Array(784) });
 * logits?.shape; // => [1, 10]
 */
export class Model {
  readonly header: ModelHeader;
  readonly device: Device;
  readonly numerics: 'fast' | 'strict';
  readonly #file: ModelFile;
  readonly #weights: Weights;
  /** By sizes; the one used last stands last. */
  readonly #loaded = new Map<string, Loaded>();
  readonly #seed: readonly [number, number];
  readonly #algorithms: AlgorithmOptions | null;
  #block = 0;
  #disposed = false;

  private constructor(
    header: ModelHeader,
    file: ModelFile,
    weights: Weights,
    device: Device,
    { numerics = 'fast', seed = 0, algorithms = null }: Ready,
  ) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new ArgumentError(`the seed is a whole number from 0, got ${seed}`, { op: 'load' });
    }
    this.header = header;
    this.device = device;
    this.numerics = numerics;
    this.#file = file;
    this.#weights = weights;
    this.#algorithms = algorithms;
    this.#seed = [seed >>> 0, Math.floor(seed / 2 ** 32)];
  }

  /** See {@link load}. */
  static async load(source: ByteInput, options: LoadOptions = {}): Promise<Model> {
    const { numerics = 'fast' } = options;
    if (numerics !== 'fast' && numerics !== 'strict') {
      throw new ArgumentError(`numerics are 'fast' or 'strict', got '${String(numerics)}'`, {
        op: 'load',
      });
    }
    const file = new ModelFile(source);
    const { header, weights, device } = await file.read(async (open) => {
      const read = headerOf(open);
      const chosen = await deviceFor(options);
      return { header: read, device: chosen, weights: await Weights.read(open, read, chosen) };
    });
    return Model.#ready(header, file, weights, device, options);
  }

  /** A model with the program for the sizes it was recorded with, or no memory held. */
  static async #ready(
    header: ModelHeader,
    file: ModelFile,
    weights: Weights,
    device: Device,
    options: Ready,
  ): Promise<Model> {
    try {
      const model = new Model(header, file, weights, device, options);
      await model.prepare({});
      return model;
    } catch (error) {
      weights.dispose();
      throw error;
    }
  }

  get name(): string {
    return this.header.name;
  }

  get inputs(): readonly Port[] {
    return this.header.inputs.map(portOf);
  }

  get outputs(): readonly Port[] {
    return this.header.outputs.map(portOf);
  }

  /** What the author of the file put into it. */
  get metadata(): Readonly<Record<string, unknown>> {
    return this.header.metadata;
  }

  /**
   * Makes the program ready for sizes of its dimensions, so that `runSync` may use them: those left out
   * are as recorded.
   */
  async prepare(sizes: Sizes): Promise<void> {
    this.#checkOpen();
    const all = completeSizes(this.name, this.header, sizes);
    const key = keyOf(all);
    if (this.#loaded.has(key)) return;
    const parts = [this.header, all, this.device, this.#weights] as const;
    const { device, numerics } = this;
    const algorithms = this.#algorithms;
    const stored = algorithms === null ? await this.#stored(all) : null;
    const loaded =
      stored === null
        ? Loaded.of(await compileFor(this.header, all, device, numerics, algorithms), ...parts)
        : Loaded.stored(stored, ...parts);
    this.#keep(key, loaded);
  }

  /** The compiled program in the file for these sizes and this device, or null. */
  async #stored(sizes: Sizes): Promise<RunnableProgram | null> {
    const { name, vectorBytes, fma, numerics } = this.device.target(this.numerics);
    const key = keyOf(sizes);
    const record = this.header.stored.find(
      ({ target, sizes: own }) =>
        target.name === name &&
        target.vectorBytes === vectorBytes &&
        target.fma === fma &&
        target.numerics === numerics &&
        keyOf(own) === key,
    );
    if (record === undefined) return null;
    const bytes = bytesOf((await this.#tensor(record.tensor)).data);
    if (crc32(bytes) !== record.checksum) {
      throw new FormatError(
        `the stored program '${record.tensor}' was changed: its checksum differs`,
      );
    }
    return readProgram(bytes);
  }

  #keep(key: string, loaded: Loaded): void {
    this.#loaded.set(key, loaded);
    if (this.#loaded.size <= READY) return;
    const [oldest] = this.#loaded.keys();
    if (oldest === undefined) return;
    this.#loaded.get(oldest)?.dispose();
    this.#loaded.delete(oldest);
  }

  /**
   * Computes the results for inputs; loads the program for new sizes first.
   *
   * @throws ArgumentError for inputs of other names, ShapeError and DTypeError for what they do not take.
   */
  async run(inputs: Inputs): Promise<Outputs> {
    const { sizes, bytes } = this.#read(inputs);
    await this.prepare(sizes);
    const loaded = this.#run(sizes, bytes);
    const outputs: Outputs = {};
    for (const [i, { name }] of this.header.outputs.entries()) {
      const { port, buffer, bytes: length } = loaded.output(i);
      outputs[name] = loaded.decode(port, await this.device.read(buffer, 0, length));
    }
    return outputs;
  }

  /**
   * As `run`, at once.
   *
   * @throws ArgumentError for sizes that were never run: `await prepare(sizes)` makes them ready.
   */
  runSync(inputs: Inputs): Outputs {
    const { sizes, bytes } = this.#read(inputs);
    if (!this.#loaded.has(keyOf(sizes))) {
      const list = Object.entries(sizes).map(([name, size]) => `${name}: ${size}`);
      throw new ArgumentError(`sizes { ${list.join(', ')} } are not ready`, {
        op: 'runSync',
        hint: `await model.prepare({ ${list.join(', ')} }), or await model.run(...)`,
      });
    }
    const loaded = this.#run(sizes, bytes);
    const outputs: Outputs = {};
    for (const [i, { name }] of this.header.outputs.entries()) {
      const { port, buffer, bytes: length } = loaded.output(i);
      outputs[name] = loaded.decode(port, this.device.view(buffer).slice(0, length));
    }
    return outputs;
  }

  #read(inputs: Inputs): { sizes: Sizes; bytes: Uint8Array[] } {
    this.#checkOpen();
    const values = this.#byName(inputs);
    const finder = new SizeFinder(this.name, this.header.dimensions);
    const data = this.header.inputs.map((port) => finder.read(port, values[port.name]));
    return {
      sizes: completeSizes(this.name, this.header, finder.sizes),
      bytes: this.header.inputs.map((port, i) =>
        encodeInput(this.name, port, data[i] as ArrayLike<number>),
      ),
    };
  }

  #byName(inputs: Inputs): Readonly<Record<string, unknown>> {
    const ports = this.header.inputs;
    const [only] = ports;
    const named = asRecord(inputs);
    if (named === null) {
      if (ports.length === 1 && only !== undefined) return { [only.name]: inputs };
      throw this.#misnamed(`got ${describeValue(inputs)}`);
    }
    const missing = ports.filter(({ name }) => !(name in named)).map(({ name }) => name);
    const unknown = Object.keys(named).filter((name) => !ports.some((port) => port.name === name));
    if (missing.length > 0) throw this.#misnamed(`without ${missing.join(', ')}`);
    if (unknown.length > 0) throw this.#misnamed(`got ${unknown.join(', ')} as well`);
    return named;
  }

  #misnamed(what: string): ArgumentError {
    const expected = this.header.inputs.map(describePort).join('; ') || 'none';
    return new ArgumentError(`the inputs are ${expected}; ${what}`, { op: this.name });
  }

  #run(sizes: Sizes, bytes: readonly Uint8Array[]): Loaded {
    const key = keyOf(sizes);
    const loaded = this.#loaded.get(key) as Loaded;
    this.#loaded.delete(key);
    this.#loaded.set(key, loaded);
    loaded.run(bytes, this.#words(sizes));
    return loaded;
  }

  /** The next places in the random stream. */
  #words(sizes: Sizes): (readonly number[])[] {
    return this.header.draws.map((count) => {
      const block = this.#block;
      this.#block += Math.ceil(sizeAt(count, sizes) / 4);
      return [...this.#seed, block >>> 0, Math.floor(block / 2 ** 32)];
    });
  }

  /**
   * Runs the test cases in the file on this device and compares the results with those stored. They begin
   * with the state in the file, and leave this model's as it is.
   */
  async check(): Promise<CheckReport> {
    this.#checkOpen();
    if (!this.header.leaves.some(isState)) return this.#check();
    const { header, device, numerics } = this;
    const weights = await this.#file.read((file) => Weights.read(file, header, device));
    const other = await Model.#ready(header, this.#file, weights, device, { numerics });
    try {
      return await other.#check();
    } finally {
      other.dispose();
    }
  }

  async #check(): Promise<CheckReport> {
    const cases: { difference: number; tolerance: number }[] = [];
    const { tests, inputs, outputs } = this.header;
    for (const { inputs: given, outputs: expected, tolerance } of tests) {
      const values: Record<string, InputValue> = {};
      for (const [i, { name }] of inputs.entries()) {
        const { data, shape } = await this.#tensor(given[i] as string);
        values[name] = { data, shape };
      }
      const results = await this.run(values);
      let difference = 0;
      for (const [i, { name }] of outputs.entries()) {
        const { data } = await this.#tensor(expected[i] as string);
        difference = Math.max(difference, differenceOf((results[name] as OutputValue).data, data));
      }
      cases.push({ difference, tolerance });
    }
    const passed = cases.every(({ difference, tolerance }) => difference <= tolerance);
    return { passed, device: this.device.name, numerics: this.numerics, cases };
  }

  #tensor(name: string): Promise<TypedHostArray> {
    return this.#file.read((file) => tensorIn(file, name));
  }

  /**
   * Another model with the same weights in memory: for runs that keep states of their own, or at the
   * same time.
   */
  async share(options: Pick<LoadOptions, 'seed'> = {}): Promise<Model> {
    this.#checkOpen();
    const { header, device, numerics } = this;
    return Model.#ready(header, this.#file, this.#weights.share(), device, {
      numerics,
      algorithms: this.#algorithms,
      ...options,
    });
  }

  /** Milliseconds of each kernel in one more run of the program used last, where the device can tell. */
  profile(): { readonly kernel: string; readonly ms: number }[] | null {
    const loaded = [...this.#loaded.values()].at(-1);
    const times = loaded?.profile();
    if (loaded === undefined || times === null || times === undefined) return null;
    const { plan } = loaded.program;
    return plan.dispatches.map(({ kernel }, i) => ({
      kernel: plan.kernels[kernel]?.name ?? '',
      ms: times[i] as number,
    }));
  }

  /** The programs that are ready: what they take of memory, and their kernels. */
  get programs(): readonly RunnableProgram[] {
    return [...this.#loaded.values()].map(({ program }) => program);
  }

  /** Frees code and memory; the weights with the last model that shares them. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const loaded of this.#loaded.values()) loaded.dispose();
    this.#loaded.clear();
    this.#weights.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #checkOpen(): void {
    if (this.#disposed) throw new DisposedError('the model was disposed of', { op: this.name });
  }
}

function asRecord(inputs: unknown): Readonly<Record<string, unknown>> | null {
  if (typeof inputs !== 'object' || inputs === null) return null;
  if (Array.isArray(inputs) || ArrayBuffer.isView(inputs)) return null;
  // `{ data, shape }` is one value.
  if ('data' in inputs && 'shape' in inputs && Object.keys(inputs).length === 2) return null;
  return inputs as Readonly<Record<string, unknown>>;
}

function keyOf(sizes: Sizes): string {
  return Object.keys(sizes)
    .sort()
    .map((name) => `${name}=${sizes[name]}`)
    .join(',');
}

function portOf({ name, dtype, shape }: PortRecord): Port {
  return {
    name,
    dtype,
    shape: shape.map((size) => (typeof size === 'number' ? size : formatSize(size))),
  };
}

/** Largest difference over the largest value; infinite where one is no number and the other is. */
export function differenceOf(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let largest = 0;
  let difference = 0;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] as number, expected[i] as number];
    if (Object.is(a, e) || a === e) {
      if (Number.isFinite(e)) largest = Math.max(largest, Math.abs(e));
      continue;
    }
    const distance = Math.abs(a - e);
    if (!Number.isFinite(distance)) return Infinity;
    largest = Math.max(largest, Math.abs(e));
    difference = Math.max(difference, distance);
  }
  return difference === 0 ? 0 : difference / Math.max(largest, 1e-30);
}

/**
 * Loads a program file (`fn.dump`) from a path, an address, bytes or a Blob.
 *
 * @throws FormatError for a file that is damaged, or of a later version.
 * @throws DeviceError if the device is not there.
 * @example no-run: needs a file
 * const model = await load('digits.tengen', { device: 'wasm', threads: 2 });
 * (await model.check()).passed; // => true
 */
export function load(source: ByteInput, options: LoadOptions = {}): Promise<Model> {
  return Model.load(source, options);
}
