// A model's program at one size of its dimensions, on one device: code, the memory of its inputs and
// results, and what is prepared of its weights.
import { byteSize, viewTypedArray } from '../../base/dtype.ts';
import { FormatError, internalError, ShapeError, OutOfMemoryError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import { type Sizes, sizeAt } from '../../base/size-expression.ts';
import type { Device, DeviceBuffer, Executable } from '../../runtime/device.ts';
import type { RunnableProgram } from '../../runtime/stored-program.ts';
import { type GuardRecord, isState, type ModelHeader, type PortRecord } from './header.ts';
import type { Weights } from './weights.ts';
import { decodeOutput, type OutputValue } from './values.ts';

/** Of any number. */
const GUARD_BYTES = 8;

/** Bytes of a port at some sizes. */
function bytesOf({ shape, dtype }: PortRecord, sizes: Sizes): number {
  return sizeOf(shape.map((size) => sizeAt(size, sizes))) * byteSize(dtype);
}

export class Loaded {
  readonly program: RunnableProgram;
  readonly #header: ModelHeader;
  readonly #sizes: Sizes;
  readonly #device: Device;
  readonly #executable: Executable;
  readonly #weights: Weights;
  readonly #bindings: DeviceBuffer[] = [];
  readonly #own: DeviceBuffer[] = [];
  readonly #scalars: Float64Array;
  /** Binding of each input, or -1 if the program does not read it. */
  readonly #inputs: readonly number[];
  /** Leaf of each output that a weight becomes, beside the binding that holds it. */
  readonly #updates: readonly { readonly leaf: number; readonly binding: number }[];
  #prepared = false;

  private constructor(
    program: RunnableProgram,
    header: ModelHeader,
    sizes: Sizes,
    device: Device,
    weights: Weights,
  ) {
    this.program = program;
    this.#header = header;
    this.#sizes = sizes;
    this.#device = device;
    this.#weights = weights;
    const { leaves, scalars, inputs } = header;
    this.#checkFit();
    this.#executable = device.load(program.plan);
    this.#scalars = new Float64Array(scalars.length);
    scalars.forEach((each, slot) => {
      if (each.kind === 'number') this.#scalars[slot] = sizeAt(each.value, sizes);
    });
    this.#inputs = inputs.map((_, i) =>
      leaves.findIndex((leaf) => leaf.kind === 'input' && leaf.input === i),
    );
    this.#updates = leaves.flatMap((leaf, i) => {
      if (!isState(leaf)) return [];
      return [{ leaf: i, binding: program.rootBindings[leaf.update] as number }];
    });
  }

  /** @throws FormatError if the program does not fit the header. */
  static of(
    program: RunnableProgram,
    header: ModelHeader,
    sizes: Sizes,
    device: Device,
    weights: Weights,
  ): Loaded {
    const loaded = new Loaded(program, header, sizes, device, weights);
    try {
      loaded.#bind();
    } catch (error) {
      loaded.dispose();
      throw error;
    }
    return loaded;
  }

  /** As `of`, for a program that was in the file: what a device stumbles over is the file's fault. */
  static stored(
    program: RunnableProgram,
    header: ModelHeader,
    sizes: Sizes,
    device: Device,
    weights: Weights,
  ): Loaded {
    try {
      return Loaded.of(program, header, sizes, device, weights);
    } catch (cause) {
      if (cause instanceof OutOfMemoryError || cause instanceof FormatError) throw cause;
      throw new FormatError(`the stored program cannot be run: ${String(cause)}`, { cause });
    }
  }

  #checkFit(): void {
    const { leaves, scalars, inputs, outputs, guards } = this.#header;
    const { plan, rootBindings } = this.program;
    const updates = leaves.filter(isState).length;
    const fits =
      rootBindings.length === outputs.length + updates + 2 * guards.length &&
      plan.scalars.length === scalars.length &&
      plan.bindings.length >= leaves.length &&
      leaves.every((leaf, i) => {
        const bytes = plan.bindings[i]?.bytes;
        return leaf.kind === 'weight'
          ? bytes === this.#weights.bytesOf(leaf.tensor)
          : bytes === bytesOf(inputs[leaf.input] as PortRecord, this.#sizes);
      }) &&
      outputs.every((port, i) => {
        return plan.bindings[rootBindings[i] as number]?.bytes === bytesOf(port, this.#sizes);
      }) &&
      leaves.every((leaf) => {
        if (!isState(leaf)) return true;
        const next = plan.bindings[rootBindings[leaf.update] as number];
        return next?.bytes === this.#weights.bytesOf(leaf.tensor);
      });
    if (!fits) throw new FormatError('the stored program is not of this file’s inputs and outputs');
  }

  #bind(): void {
    const { leaves } = this.#header;
    const { plan } = this.program;
    plan.bindings.forEach(({ bytes }, i) => {
      const leaf = leaves[i];
      if (leaf?.kind === 'weight') {
        this.#bindings.push(this.#weights.buffer(leaf.tensor));
        return;
      }
      const buffer = this.#device.allocate(Math.max(bytes, GUARD_BYTES));
      this.#own.push(buffer);
      this.#bindings.push(buffer);
    });
  }

  /** Computes what follows from the weights alone, once. */
  #prepare(): void {
    this.#prepared = true;
    const { prepared, plan } = this.program;
    if (prepared === null) return;
    const executable = this.#device.load(prepared.plan);
    // Its bindings are the program's own, but for those that it keeps, which stand last in both.
    const bindings = prepared.plan.bindings.map((_, i) => this.#bindings[i] as DeviceBuffer);
    if (bindings.length !== plan.bindings.length)
      throw internalError('bindings of what is prepared');
    executable.run(bindings, this.#scalars);
    executable.dispose();
  }

  /** Runs on inputs as bytes. `words`: four for each random draw. */
  run(inputs: readonly Uint8Array[], words: readonly (readonly number[])[]): void {
    const { scalars, leaves } = this.#header;
    inputs.forEach((bytes, i) => {
      const binding = this.#inputs[i] as number;
      if (binding >= 0 && bytes.byteLength > 0) {
        this.#device.write(this.#bindings[binding] as DeviceBuffer, 0, bytes);
      }
    });
    scalars.forEach((each, slot) => {
      if (each.kind === 'random') this.#scalars[slot] = words[each.draw]?.[each.word] ?? 0;
    });
    // Weights that change may lie elsewhere since the last run.
    for (const { leaf } of this.#updates) {
      const record = leaves[leaf];
      if (record?.kind === 'weight') this.#bindings[leaf] = this.#weights.buffer(record.tensor);
    }
    if (!this.#prepared) this.#prepare();
    this.#executable.run(this.#bindings, this.#scalars);
    this.#checkGuards();
    this.#update();
  }

  #checkGuards(): void {
    const { guards, outputs } = this.#header;
    const { rootBindings } = this.program;
    if (guards.length === 0) return;
    const first = rootBindings.length - 2 * guards.length;
    if (first < outputs.length) throw internalError('guards stand before outputs');
    guards.forEach((guard, i) => {
      const [least, most] = [0, 1].map((k) => {
        const binding = rootBindings[first + 2 * i + k] as number;
        const dtype = guard.dtype;
        const bytes = this.#device.view(this.#bindings[binding] as DeviceBuffer).slice(0, 8);
        return viewTypedArray(dtype, bytes.buffer, 0, 1)[0] as number;
      });
      checkGuard(guard, least as number, most as number, this.#sizes);
    });
  }

  /** New values of weights that were not written in their place. */
  #update(): void {
    const { leaves } = this.#header;
    for (const { leaf, binding } of this.#updates) {
      if (binding === leaf) continue;
      const record = leaves[leaf];
      if (record?.kind !== 'weight') continue;
      const made = this.#bindings[binding] as DeviceBuffer;
      this.#bindings[binding] = this.#weights.exchange(record.tensor, made);
      this.#own[this.#own.indexOf(made)] = this.#bindings[binding] as DeviceBuffer;
    }
  }

  output(i: number): { readonly port: PortRecord; readonly buffer: DeviceBuffer; bytes: number } {
    const port = this.#header.outputs[i] as PortRecord;
    const binding = this.program.rootBindings[i] as number;
    const buffer = this.#bindings[binding] as DeviceBuffer;
    return { port, buffer, bytes: bytesOf(port, this.#sizes) };
  }

  decode(port: PortRecord, bytes: Uint8Array): OutputValue {
    const shape = port.shape.map((size) => sizeAt(size, this.#sizes));
    return decodeOutput(port.dtype, shape, bytes);
  }

  /** Milliseconds of each dispatch of one more run, where the device can tell. */
  profile(): Float64Array | null {
    return this.#executable.profile?.(this.#bindings, this.#scalars) ?? null;
  }

  dispose(): void {
    this.#executable.dispose();
    for (const buffer of this.#own) this.#device.free(buffer);
  }
}

function checkGuard(guard: GuardRecord, least: number, most: number, sizes: Sizes): void {
  if (guard.nothing !== undefined && least === guard.nothing[0] && most === guard.nothing[1])
    return;
  const at = (limit: GuardRecord['least'], otherwise: number): number =>
    limit === undefined ? otherwise : sizeAt(limit, sizes);
  const low = at(guard.least, -Infinity);
  const above = at(guard.above, -Infinity);
  const below = at(guard.below, Infinity);
  const isLow = !(least >= low) || (guard.above !== undefined && !(least > above));
  if (!isLow && most < below) return;
  const value = isLow ? least : most;
  const range = guard.below === undefined ? '' : ` of ${low} to ${below - 1}`;
  throw new ShapeError(`${guard.message}: ${value}${range}`);
}
