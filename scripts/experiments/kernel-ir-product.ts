// The product schedule of src/compile/schedule/product.ts as a plan of its own, relu(a @ b + bias),
// for any target and any tiles: what the experiments print, run and time.
import type { Buffer, Expression } from '../../src/ir/expression.ts';
import type { Kernel, Target } from '../../src/ir/kernel.ts';
import type { ContractionContext, ContractionKernel } from '../../src/compile/lower/contraction.ts';
import type { Memory, Scratch, Stage } from '../../src/compile/lower/kernel-builder.ts';
import { KernelBuilder } from '../../src/compile/lower/kernel-builder.ts';
import {
  chooseTiles,
  productStages,
  type ProductTiles,
} from '../../src/compile/schedule/product.ts';
import type { ProductProblem, ProductSizes } from '../../src/compile/schedule/product-problem.ts';
import type { Node } from '../../src/graph/node.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import type { Location, Plan } from '../../src/runtime/plan.ts';

/** Bindings of the plan, in order. */
const OPERANDS = ['a', 'b', 'bias', 'out'] as const;

/** Kernels before preparation, and where their arguments are. */
export interface ProductProgram {
  readonly tiles: ProductTiles;
  readonly kernels: readonly Kernel[];
  readonly plan: Plan;
}

/** Plan of relu(a[m, k] @ b[k, n] + bias[n]); bindings a, b, bias, out. */
export function productProgram(
  sizes: ProductSizes,
  target: Target,
  tiles: ProductTiles = chooseTiles(sizes, target, 'float32'),
): ProductProgram {
  const { m, n, k } = sizes;
  const lengths = { a: m * k, b: k * n, bias: n, out: m * n };
  const memory = new Map<Scratch, number>();
  const operands: Record<string, Scratch> = {};
  OPERANDS.forEach((name, i) => {
    operands[name] = { name, dtype: 'float32', length: lengths[name] };
    memory.set(operands[name], i);
  });
  const problem: ProductProblem = {
    sizes,
    dtype: 'float32',
    readA: (kernel, _batch, row, depth) => kernel.read(0, [row, depth]),
    readB: (kernel, _batch, depth, column) => kernel.read(1, [depth, column]),
    store: (kernel, _batch, row, column, value) => kernel.writeElement([row, column], value),
  };
  const stages = productStages(contextOf(sizes, target, operands), problem, tiles);
  const kernels = stages.map(({ kernel }) => prepareKernel(kernel, target));
  return {
    tiles,
    kernels: stages.map(({ kernel }) => kernel),
    plan: planOf(stages, kernels, memory, lengths),
  };
}

function contextOf(
  { n, k }: ProductSizes,
  target: Target,
  operands: Record<string, Scratch>,
): ContractionContext {
  const open = (name: string): ContractionKernel => {
    const kernel = new KernelBuilder(name);
    const { builder } = kernel;
    const buffer = (operand: string, access: 'read' | 'write'): Buffer =>
      kernel.scratch(operands[operand] as Scratch, access);
    const at = ([row, column]: readonly Expression[], stride: number): Expression =>
      builder.add(builder.scale(row as Expression, stride), column as Expression);
    return {
      builder,
      read: (operand, indices) =>
        builder.load(buffer(operand === 0 ? 'a' : 'b', 'read'), at(indices, operand === 0 ? k : n)),
      writeElement: (indices, value) => {
        const biased = builder.add(
          value,
          builder.load(buffer('bias', 'read'), indices[1] as Expression),
        );
        const rectified = builder.max(biased, builder.constant(0, 'f32'));
        return [
          {
            kind: 'store',
            buffer: buffer('out', 'write'),
            index: at(indices, n),
            value: rectified,
          },
        ];
      },
      writeVector: () => {
        throw new Error('the product schedule writes elements');
      },
      buffer: () => {
        throw new Error('operands are reached by read()');
      },
      scratch: (scratch, access) => kernel.scratch(scratch, access),
      privateArray: (array, dtype, length) => kernel.privateArray(array, dtype, length),
      finish: (gridIndex, gridSize, body) => kernel.finish(gridIndex, gridSize, body),
    };
  };
  return {
    node: undefined as never as Node,
    target,
    name: 'product',
    newKernel: open,
    plainOperand: () => null,
    newScratch: (name, dtype, length) => ({ name, dtype, length }),
    hasEpilogue: true,
    mayRepeat: false,
    isConstant: () => false,
  };
}

function planOf(
  stages: readonly Stage[],
  kernels: readonly Kernel[],
  bindings: ReadonlyMap<Scratch, number>,
  lengths: Record<string, number>,
): Plan {
  const offsets = new Map<Scratch, number>();
  let arenaBytes = 0;
  const locate = (memory: Memory): Location => {
    if (memory.kind !== 'scratch') throw new Error('internal: an argument of the graph');
    const index = bindings.get(memory.scratch);
    if (index !== undefined) return { space: 'binding', index };
    let offset = offsets.get(memory.scratch);
    if (offset === undefined) {
      offset = arenaBytes;
      offsets.set(memory.scratch, offset);
      arenaBytes += Math.ceil((memory.scratch.length * 4) / 64) * 64;
    }
    return { space: 'arena', offset };
  };
  const dispatches = stages.map(({ memory }, kernel) => ({
    kernel,
    arguments: memory.map(locate),
  }));
  return {
    kernels,
    dispatches,
    arenaBytes,
    bindings: OPERANDS.map((name) => ({
      bytes: (lengths[name] as number) * 4,
      access: name === 'out' ? ('write' as const) : ('read' as const),
    })),
    scalars: [],
  };
}

/** Reproducible noise in [-0.5, 0.5). */
export function noise(length: number, seed: number): Float32Array {
  const values = new Float32Array(length);
  let state = seed >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 4294967296 - 0.5;
  }
  return values;
}

/** Element (row, column) of relu(a @ b + bias), in double precision. */
export function referenceElement(
  { n, k }: ProductSizes,
  a: Float32Array,
  b: Float32Array,
  bias: Float32Array,
  row: number,
  column: number,
): number {
  let sum = 0;
  for (let i = 0; i < k; i++) sum += (a[row * k + i] as number) * (b[i * n + column] as number);
  return Math.max(0, sum + (bias[column] as number));
}
