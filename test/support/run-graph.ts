// Compiles a graph, runs it on a device, and reads the results back as float64.
import {
  fromBfloat16Bits,
  fromFloat16Bits,
  newTypedArray,
  toBfloat16Bits,
  toFloat16Bits,
  type TypedArray,
} from '../../src/base/dtype.ts';
import { sizeOf } from '../../src/base/shape.ts';
import { compile } from '../../src/compile/compiler.ts';
import type { AlgorithmPolicy } from '../../src/compile/tune/algorithms.ts';
import { Linearization } from '../../src/graph/linearize.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import type { Device } from '../../src/runtime/device.ts';

export interface RunOptions {
  readonly numerics?: 'fast' | 'strict';
  /** Whether kernels are fused; on by default. */
  readonly fusion?: boolean;
  /** How schedules are chosen; by estimate if nothing is said. */
  readonly algorithms?: AlgorithmPolicy;
  /** Products of bfloat16, in plain C where the processor has no units for them. */
  readonly pairs?: boolean;
}

/** Chooses one schedule by name, whatever the estimates; `seen` gets the names of all usable ones. */
export function only(name: string, seen: Set<string>): AlgorithmPolicy {
  class Times extends Map<string, number> {
    override has(): boolean {
      return true;
    }
    override get(schedule: string): number {
      seen.add(schedule);
      return schedule === name ? 0 : 1;
    }
  }
  const tuner = { lookup: () => new Times(), measure: () => null, remember: () => undefined };
  return { reproducible: false, workspaceLimit: Infinity, tuner };
}

/** Host memory of a tensor, as devices take it. */
export function toStored({ dtype, data }: ReferenceTensor): TypedArray {
  const array = newTypedArray(dtype, data.length);
  const bits = { float16: toFloat16Bits, bfloat16: toBfloat16Bits };
  const convert = dtype === 'float16' || dtype === 'bfloat16' ? bits[dtype] : (x: number) => x;
  data.forEach((value, i) => (array[i] = convert(value)));
  return array;
}

function fromStored(node: Node, bytes: Uint8Array): ReferenceTensor {
  const { shape, dtype } = node;
  const array = newTypedArray(dtype, sizeOf(shape));
  new Uint8Array(array.buffer).set(bytes.subarray(0, array.byteLength));
  const values = { float16: fromFloat16Bits, bfloat16: fromBfloat16Bits };
  const convert = dtype === 'float16' || dtype === 'bfloat16' ? values[dtype] : (x: number) => x;
  return { shape, dtype, data: Float64Array.from(array, (value) => convert(value)) };
}

/**
 * Values of `roots` computed on `device` from values of the leaves. Leaves among the roots are left
 * out, roots named twice are computed once. The device is left as it was.
 */
export function runGraph(
  device: Device,
  roots: readonly Node[],
  values: ReadonlyMap<Node, ReferenceTensor>,
  options: RunOptions = {},
): Map<Node, ReferenceTensor> {
  const linear = new Linearization();
  linear.reset();
  const computed = [...new Set(roots)].filter((root) => root.op.lower.kind !== 'leaf');
  for (const root of computed) linear.add(root);
  const { pairs = false } = options;
  const target = {
    ...(pairs && { pairSpeed: 1 }),
    ...device.target(options.numerics ?? 'fast', pairs),
  };
  const program = {
    nodes: linear.nodes.slice(),
    leaves: linear.leaves.slice(),
    scalars: linear.scalars.slice(),
    roots: computed.map((root) => ({ position: linear.nodes.indexOf(root), inPlaceOf: -1 })),
  };
  const compiled = compile(program, target, {
    fusion: options.fusion !== false,
    ...(options.algorithms === undefined ? {} : { algorithms: options.algorithms }),
  });
  for (const kernel of compiled.plan.kernels) verifyKernel(kernel, { decomposed: true });
  const buffers = compiled.plan.bindings.map(({ bytes }) => device.allocate(bytes));
  // What nothing writes must not look like a result.
  for (const buffer of buffers) device.write(buffer, 0, new Uint8Array(buffer.bytes).fill(0xff));
  program.leaves.forEach((leaf, i) => {
    const value = values.get(leaf);
    if (value === undefined) throw new Error(`no value for ${leaf.op.name}`);
    device.write(buffers[i]!, 0, new Uint8Array(toStored(value).buffer));
  });
  const executable = device.load(compiled.plan);
  const slots = Float64Array.from(program.scalars, ({ value }) => value);
  executable.run(buffers, slots);
  const results = new Map(
    computed.map((root, i) => [
      root,
      fromStored(root, device.view(buffers[compiled.rootBindings[i]!]!)),
    ]),
  );
  executable.dispose();
  for (const buffer of buffers) device.free(buffer);
  return results;
}
