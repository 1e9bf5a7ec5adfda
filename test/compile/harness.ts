// Compiles graphs for the interpreter and runs them there.
import { newTypedArray, type TypedArray } from '../../src/base/dtype.ts';
import {
  fromBfloat16Bits,
  fromFloat16Bits,
  toBfloat16Bits,
  toFloat16Bits,
} from '../../src/base/dtype.ts';
import { sizeOf } from '../../src/base/shape.ts';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { compile, type CompileOptions } from '../../src/compile/compiler.ts';
import type { CompiledProgram, Program } from '../../src/compile/program.ts';
import { Linearization } from '../../src/graph/linearize.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import type { Target } from '../../src/ir/kernel.ts';

/** A root, or a root that overwrites a leaf. */
export type RootSpec = Node | { readonly node: Node; readonly over: Node };

/** The program of some roots, as the evaluator would make it. */
export function programOf(roots: readonly RootSpec[]): Program {
  const linear = new Linearization();
  linear.reset();
  for (const root of roots) linear.add('node' in root ? root.node : root);
  const positions = new Map(linear.nodes.map((node, index) => [node, index]));
  return {
    nodes: linear.nodes.slice(),
    leaves: linear.leaves.slice(),
    scalars: linear.scalars.slice(),
    roots: roots.map((root) =>
      'node' in root
        ? { position: positions.get(root.node)!, inPlaceOf: linear.leaves.indexOf(root.over) }
        : { position: positions.get(root)!, inPlaceOf: -1 },
    ),
  };
}

export function targetOf(options: Partial<Target> = {}): Target {
  return { ...new InterpDevice({ vectorBytes: 16, fma: false }).target('fast'), ...options };
}

export function compileRoots(
  roots: readonly RootSpec[],
  options: CompileOptions = {},
  target: Target = targetOf(),
): { program: Program; compiled: CompiledProgram } {
  const program = programOf(roots);
  return { program, compiled: compile(program, target, options) };
}

function toStored({ dtype, data }: ReferenceTensor): TypedArray {
  const array = newTypedArray(dtype, data.length);
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    array[i] =
      dtype === 'float16'
        ? toFloat16Bits(value)
        : dtype === 'bfloat16'
          ? toBfloat16Bits(value)
          : value;
  }
  return array;
}

function fromStored(node: Node, bytes: Uint8Array): Float64Array {
  const size = sizeOf(node.shape);
  const array = newTypedArray(node.dtype, size);
  new Uint8Array(array.buffer).set(bytes.subarray(0, array.byteLength));
  return Float64Array.from(array, (value) =>
    node.dtype === 'float16'
      ? fromFloat16Bits(value)
      : node.dtype === 'bfloat16'
        ? fromBfloat16Bits(value)
        : value,
  );
}

/** Runs a compiled program; gives the value of each root. */
export function execute(
  program: Program,
  compiled: CompiledProgram,
  values: ReadonlyMap<Node, ReferenceTensor>,
): Float64Array[] {
  const device = new InterpDevice();
  const buffers = compiled.plan.bindings.map(({ bytes }) => device.allocate(bytes));
  // What nothing writes must not look like a result.
  for (const buffer of buffers) device.view(buffer).fill(0xff);
  program.leaves.forEach((leaf, index) => {
    const value = values.get(leaf);
    if (value === undefined) throw new Error(`no value for ${leaf.op.name}`);
    const stored = toStored(value);
    device.write(buffers[index]!, 0, new Uint8Array(stored.buffer));
  });
  const executable = device.load(compiled.plan);
  executable.run(
    buffers,
    Float64Array.from(program.scalars, ({ value }) => value),
  );
  const results = program.roots.map(({ position }, index) =>
    fromStored(program.nodes[position]!, device.view(buffers[compiled.rootBindings[index]!]!)),
  );
  executable.dispose();
  device.close();
  return results;
}
