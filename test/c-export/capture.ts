// Functions of tensors as programs that exporters take, with test cases computed on a device.
import type { Tensor } from 'tengen';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import { compile } from '../../src/compile/compiler.ts';
import type { CompiledProgram, Program, Root } from '../../src/compile/program.ts';
import { Linearization } from '../../src/graph/linearize.ts';
import { evaluator } from '../../src/interface/transform/install.ts';
import { viewValue } from '../../src/interface/transform/values.ts';
import type { Target } from '../../src/ir/kernel.ts';
import type { Device } from '../../src/runtime/device.ts';
import type {
  ExportedCase,
  ExportedPlan,
  ExportedLimits,
  ExportRequest,
} from '../../src/runtime/export.ts';
import { runOnceOn } from '../../src/runtime/run-once.ts';
import type { Storage } from '../../src/runtime/storage.ts';

/** A function that was called once, and everything that it came from. */
export class Captured {
  readonly program: Program;
  readonly request: Omit<ExportRequest, 'name' | 'runOnce' | 'testCases'>;
  readonly constantLeaves: readonly boolean[];

  constructor(program: Program, request: Captured['request'], constantLeaves: readonly boolean[]) {
    this.program = program;
    this.request = request;
    this.constantLeaves = constantLeaves;
  }

  /** The same with an input that is checked. */
  withLimits(name: string, limits: ExportedLimits): Captured {
    const inputs = this.request.inputs.map((each) =>
      each.name === name ? { ...each, limits } : each,
    );
    return new Captured(this.program, { ...this.request, inputs }, this.constantLeaves);
  }

  compile(target: Target, packed = true): CompiledProgram {
    // Whatever was compiled meanwhile has numbered nodes anew.
    this.program.nodes.forEach((node, i) => (node.position = i));
    const constants = packed ? { constantLeaves: this.constantLeaves } : {};
    return compile(this.program, target, constants);
  }

  exported(target: Target, packed = true): ExportedPlan {
    const { plan, prepared } = this.compile(target, packed);
    return { target, plan, prepared };
  }

  /** Results of several runs, one after the other, with weights that change in between. */
  async run(
    device: Device,
    numerics: 'fast' | 'strict',
    cases: readonly (readonly Uint8Array[])[],
    target: Target = device.target(numerics),
  ): Promise<ExportedCase[]> {
    const { plan } = this.compile(target, false);
    const { inputs, outputs, weights } = this.request;
    const runOnce = runOnceOn(device);
    const state = new Map(weights.map(({ binding, bytes }) => [binding, bytes]));
    const changing = weights.flatMap(({ binding = -1 }) =>
      (plan.bindings[binding]?.access ?? 'read') === 'read' ? [] : [binding],
    );
    const results: ExportedCase[] = [];
    for (const values of cases) {
      const contents: (Uint8Array | null)[] = plan.bindings.map((_, i) => state.get(i) ?? null);
      const scalars = this.request.scalars.slice();
      inputs.forEach(({ binding, slots = [], dtype }, i) => {
        const value = values[i]!;
        if (binding !== undefined) contents[binding] = value;
        for (const slot of slots) {
          if (dtype !== 'float32') throw new Error(`a slot of ${dtype}`);
          scalars[slot] = new DataView(value.buffer, value.byteOffset).getFloat32(0, true);
        }
      });
      const wanted = [...outputs.map(({ binding }) => binding), ...changing];
      const got = await runOnce(plan, contents, scalars, wanted);
      changing.forEach((binding, i) => state.set(binding, got[outputs.length + i]!));
      results.push({ inputs: values, outputs: got.slice(0, outputs.length) });
    }
    return results;
  }
}

/** Bytes of a tensor that is computed. */
export function bytes(tensor: Tensor): Uint8Array {
  tensor.dataSync();
  return viewValue(tensor.node).slice();
}

/**
 * Calls `build` once. Tensors of `inputs` become inputs, others that it needs weights; what it assigns
 * is updated in place. Numbers equal to one of `numbers` become inputs too.
 */
export function capture(
  inputs: Readonly<Record<string, Tensor>>,
  build: () => Readonly<Record<string, Tensor>>,
  numbers: Readonly<Record<string, number>> = {},
): Captured {
  for (const tensor of Object.values(inputs)) tensor.dataSync();
  const { observers } = evaluator();
  const observer = { stepping: () => true };
  observers.push(observer);
  let outputs: Readonly<Record<string, Tensor>>;
  try {
    outputs = build();
  } finally {
    observers.splice(observers.indexOf(observer), 1);
  }
  const linear = new Linearization();
  linear.reset();
  const nodes = Object.values(outputs).map(({ node }) => node);
  const assignments = evaluator().pendingAssignments();
  for (const node of [...nodes, ...assignments.map((each) => each.node)]) linear.add(node);
  const leafOf = (storage: Storage): number =>
    linear.leaves.findIndex((leaf) => leaf.storage === storage);
  const roots: Root[] = nodes
    .filter((node) => node.storage === null)
    .map((node) => ({ position: linear.nodes.indexOf(node), inPlaceOf: -1 }));
  for (const { node, storage } of assignments) {
    const inPlaceOf = leafOf(storage);
    const position = linear.nodes.indexOf(node);
    if (inPlaceOf < 0) throw new Error(`${storage.label} is assigned to, and not read`);
    roots.push({ position, inPlaceOf });
  }
  const program: Program = {
    nodes: linear.nodes.slice(),
    leaves: linear.leaves.slice(),
    scalars: linear.scalars.slice(),
    roots,
  };
  const given = Object.entries(inputs).map(([name, { node }]) => ({ name, node }));
  const inputLeaves = given.map(({ node }) => program.leaves.indexOf(node));
  const slots = Object.entries(numbers).map(([name, value]) => ({
    name,
    dtype: 'float32' as const,
    shape: [],
    slots: program.scalars.flatMap((node, slot) => (node.value === value ? [slot] : [])),
  }));
  const changed = new Set(assignments.map(({ storage }) => leafOf(storage)));
  let next = program.leaves.length;
  const bindingOfRoot = roots.map(({ inPlaceOf }) => (inPlaceOf < 0 ? next++ : inPlaceOf));
  const captured = new Captured(
    program,
    {
      inputs: [
        ...given.map(({ name, node }, i) => ({
          name,
          dtype: node.dtype,
          shape: node.shape,
          ...(inputLeaves[i]! < 0 ? {} : { binding: inputLeaves[i]! }),
        })),
        ...slots,
      ],
      outputs: Object.entries(outputs).map(([name, { node }]) => {
        const root = roots.findIndex(({ position }) => program.nodes[position] === node);
        const leaf = program.leaves.indexOf(node);
        return {
          name,
          dtype: node.dtype,
          shape: node.shape,
          binding: root < 0 ? leaf : bindingOfRoot[root]!,
        };
      }),
      weights: program.leaves.flatMap((node, binding) => {
        if (inputLeaves.includes(binding)) return [];
        const { dtype, shape } = node;
        const label = `${(node.storage as Storage).label} ${binding}`;
        return [{ name: label, dtype, shape, binding, bytes: viewValue(node).slice() }];
      }),
      scalars: Float64Array.from(program.scalars, ({ value }) => value),
    },
    program.leaves.map((_, i) => !inputLeaves.includes(i) && !changed.has(i)),
  );
  // They must not be found by the next capture.
  for (const { holder, storage } of assignments) evaluator().replaced(holder, storage);
  return captured;
}

/** Test cases by the wasm device, which strict numerics give the same bits as every other. */
export async function casesOf(
  captured: Captured,
  numerics: 'fast' | 'strict',
  runs: readonly (readonly Uint8Array[])[],
): Promise<ExportedCase[]> {
  const device = new WasmDevice({ threads: 1 });
  try {
    return await captured.run(device, numerics, runs);
  } finally {
    device.close();
  }
}
