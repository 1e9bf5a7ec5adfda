// Kernels of a user: what they give back is checked where they are called from, and once for each form
// of a call the whole kernel is built and verified, so that no backend ever sees a broken one.
import { CompileError, ShapeError, TengenError } from '../../base/errors.ts';
import { broadcastShapes, formatShape, type Shape } from '../../base/shape.ts';
import { compile } from '../../compile/compiler.ts';
import { Linearization } from '../../graph/linearize.ts';
import type { Node } from '../../graph/node.ts';
import {
  type Attrs,
  type KernelContext,
  type Lowering,
  makeNode,
  type OpDef,
  type ReadContext,
} from '../../graph/op.ts';
import { narrow } from '../../graph/ops/emit.ts';
import { input } from '../../graph/ops/leaf.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Target } from '../../ir/kernel.ts';
import { verifyKernel } from '../../ir/verify.ts';
import type { OwnKernel, TensorType } from './definition.ts';

/** Vectors of four: a kernel that is sound for them is for every CPU. */
const CHECKED: Target = {
  name: 'check',
  vectorBytes: 16,
  fma: false,
  numerics: 'fast',
  vectorRegisters: 16,
  workgroups: false,
  cacheBytes: { l1: 32768, l2: 1048576 },
};

/** A value as its dtype stores it. Throws CompileError for one of another type. */
function checkedValue(builder: Builder, node: Node, value: Expression): Expression {
  const wanted = valueTypeOf(node.dtype);
  const type = (value as Expression | undefined)?.type;
  if (type === wanted) return narrow(builder, value, node.dtype);
  throw new CompileError(`its kernel gives ${type ?? 'no expression'} for ${node.dtype}`, {
    op: node.op.name,
    hint: `give ${wanted}; builder.convert(x, '${wanted}') makes it`,
  });
}

/** Throws CompileError unless indices can only be elements: loads are not checked at run time. */
function checkIndices(op: string, what: string, at: readonly Expression[], shape: Shape): void {
  if (at.length !== shape.length) {
    throw new CompileError(`${at.length} indices for ${what} of ${formatShape(shape)}`, { op });
  }
  at.forEach((index, axis) => {
    const size = shape[axis] as number;
    if (index.type === 'i32' && index.lanes === 1 && index.min >= 0 && index.max < size) return;
    const range = index.type === 'i32' ? `[${index.min}, ${index.max}]` : index.type;
    throw new CompileError(
      `index ${range} of ${what} at axis ${axis}, which has ${size} element(s)`,
      { op, hint: 'bound it with builder.min and builder.max, also where the value is not used' },
    );
  });
}

/** Reads with their indices checked. */
function checkedReads<C extends ReadContext>(context: C, node: Node): C {
  const read = (operand: number, indices: readonly Expression[]): Expression => {
    const source = node.inputs[operand];
    if (source === undefined) {
      throw new CompileError(`there is no input ${operand}`, { op: node.op.name });
    }
    checkIndices(node.op.name, `input ${operand}`, indices, source.shape);
    return context.read(operand, indices);
  };
  return { ...context, read };
}

function checkedWrites(context: KernelContext, node: Node): KernelContext {
  return {
    ...checkedReads(context, node),
    write(indices, value) {
      checkIndices(node.op.name, 'the result', indices, node.shape);
      return context.write(indices, checkedValue(context.builder, node, value));
    },
  };
}

/** A user's kernel as the compiler takes it. */
export function loweringOf<I extends readonly string[]>(
  kernel: OwnKernel<I, Attrs>,
): Lowering<Attrs> {
  switch (kernel.kind) {
    case 'elementwise':
      return {
        kind: 'elementwise',
        emit: (builder, inputs, attrs, node) => {
          const value = kernel.emit(builder, inputs as never, attrs, node);
          return checkedValue(builder, node, value);
        },
      };
    case 'indexed':
      return {
        kind: 'indexed',
        view: false,
        emit: (context, indices, attrs, node) => {
          const value = kernel.emit(checkedReads(context, node), indices, attrs, node);
          return checkedValue(context.builder, node, value);
        },
      };
    case 'reduce':
      return { kind: 'reduce', reduction: (attrs, node) => kernel.reduction(attrs, node) };
    case 'loops':
      return {
        kind: 'custom',
        lower: (context, attrs, node) => kernel.lower(checkedWrites(context, node), attrs, node),
        ...(kernel.evaluations === undefined
          ? {}
          : { evaluations: (attrs, node) => kernel.evaluations?.(attrs, node) ?? [] }),
      };
    default:
      return kernel satisfies never;
  }
}

/** Throws ShapeError unless the result's shape is what the kind of kernel makes. */
function checkShape(node: Node): void {
  const { op, attrs, shape, inputs } = node;
  const { lower } = op;
  let made: Shape = shape;
  if (lower.kind === 'elementwise') {
    made = broadcastShapes(op.name, ...inputs.map((each) => each.shape));
  } else if (lower.kind === 'reduce') {
    const { axes, keepdims } = lower.reduction(attrs, node);
    const all = (inputs[0] as Node).shape;
    const isSound = axes.every(
      (axis, i) => axis in all && (i === 0 || axis > (axes[i - 1] as number)),
    );
    if (!isSound) {
      throw new CompileError(`axes [${axes.join(',')}] are not sorted axes of its input`, {
        op: op.name,
      });
    }
    made = keepdims
      ? all.map((size, axis) => (axes.includes(axis) ? 1 : size))
      : all.filter((_, axis) => !axes.includes(axis));
  }
  if (formatShape(made) === formatShape(shape)) return;
  throw new ShapeError(
    `its shape rule says ${formatShape(shape)}, its kernel ${formatShape(made)}`,
    {
      op: op.name,
    },
  );
}

/** Builds and verifies the kernels of each form of a call once. */
export class KernelCheck {
  readonly #known = new Set<string>();

  /** Throws CompileError, or what the user's own code throws, for a call that cannot be compiled. */
  run(op: OpDef, inputs: readonly TensorType[], attrs: Attrs): void {
    const form = JSON.stringify([inputs.map(({ shape, dtype }) => [dtype, shape]), attrs]);
    if (this.#known.has(form)) return;
    const leaves = inputs.map(({ shape, dtype }) =>
      input({ storageId: -1 }, 0, shape, dtype, false, null),
    );
    const node = makeNode(op, leaves, attrs);
    checkShape(node);
    const linear = new Linearization();
    linear.reset();
    const position = linear.add(node);
    const { nodes, leaves: stored, scalars } = linear;
    const program = { nodes, leaves: stored, scalars, roots: [{ position, inPlaceOf: -1 }] };
    const { plan } = compile(program, CHECKED);
    for (const kernel of plan.kernels) {
      try {
        verifyKernel(kernel, { decomposed: true });
      } catch (error) {
        if (error instanceof TengenError) throw error;
        const reason = (error as Error).message.replace(/^internal: /, '');
        throw new CompileError(`its kernel is not well formed: ${reason}`, {
          op: op.name,
          cause: error,
        });
      }
    }
    this.#known.add(form);
  }
}
