// Runs compiled programs for the command by hand, with every buffer in reach: inputs and weights in,
// any result or intermediate value out.
import type { TypedArray } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import { blocksFor } from '../../base/philox.ts';
import { type Sizes, sizeAt } from '../../base/size-expression.ts';
import type { Device, DeviceBuffer } from '../../runtime/device.ts';
import type { Plan } from '../../runtime/plan.ts';
import { bytesOf } from '../io/host-array.ts';
import type { ModelHeader } from '../lite/header.ts';
import { encodeInput } from '../lite/values.ts';
import type { Values } from './inputs.ts';
import type { ModelSource } from './model-source.ts';

/** What a program starts from: bytes of its leaves, in order, and its numbers. */
export interface Start {
  readonly leaves: readonly Uint8Array[];
  readonly scalars: Float64Array;
}

/** Weights of the file and the given inputs, in the order of the header's leaves. */
export async function startOf(model: ModelSource, values: Values, sizes: Sizes): Promise<Start> {
  const { header } = model;
  const names = header.leaves.flatMap((leaf) => (leaf.kind === 'weight' ? [leaf.tensor] : []));
  const weights = await model.read([...new Set(names)]);
  const leaves = header.leaves.map((leaf) => {
    if (leaf.kind === 'weight')
      return bytesOf((weights.get(leaf.tensor) as { data: TypedArray }).data);
    const port = header.inputs[leaf.input];
    const value = port === undefined ? undefined : values[port.name];
    if (port === undefined || value === undefined) throw internalError('an input without a value');
    return encodeInput(header.name, port, value.data);
  });
  return { leaves, scalars: numbersOf(header, sizes) };
}

/** Every random draw at the beginning of stream 0, one after the other, as in a model's first run. */
function numbersOf({ scalars, draws }: ModelHeader, sizes: Sizes): Float64Array {
  let block = 0;
  const starts = draws.map((count) => {
    const start = block;
    block += blocksFor(sizeAt(count, sizes));
    return [0, 0, start >>> 0, Math.floor(start / 2 ** 32)];
  });
  return Float64Array.from(scalars, (each) =>
    each.kind === 'number' ? sizeAt(each.value, sizes) : (starts[each.draw]?.[each.word] ?? 0),
  );
}

/** Buffers of a device for all bindings of a plan. */
export class PlanMemory {
  readonly device: Device;
  readonly buffers: readonly DeviceBuffer[];
  readonly #bytes: readonly number[];

  constructor(device: Device, bytes: readonly number[], leaves: readonly Uint8Array[]) {
    this.device = device;
    this.#bytes = bytes;
    this.buffers = bytes.map((size) => device.allocate(Math.max(size, 8)));
    bytes.forEach((size, i) => this.write(i, leaves[i] ?? new Uint8Array(size)));
  }

  write(binding: number, bytes: Uint8Array): void {
    if (bytes.byteLength === 0) return;
    this.device.write(this.buffers[binding] as DeviceBuffer, 0, bytes);
  }

  read(binding: number): Promise<Uint8Array> {
    return this.device.read(
      this.buffers[binding] as DeviceBuffer,
      0,
      this.#bytes[binding] as number,
    );
  }

  run(plan: Plan, scalars: Float64Array): void {
    const executable = this.device.load(plan);
    try {
      executable.run(this.buffers, scalars);
    } finally {
      executable.dispose();
    }
  }

  dispose(): void {
    for (const buffer of this.buffers) this.device.free(buffer);
  }
}
