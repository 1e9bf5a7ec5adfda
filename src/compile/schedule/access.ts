// How a node reads its inputs: how often each element is evaluated, and whether the element at a
// row-major position needs only the input's element at that same position.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { ConvolutionGeometry, OpDef, ReadContext } from '../../graph/op.ts';
import { Builder } from '../../ir/builder.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Target } from '../../ir/kernel.ts';
import { flatten } from '../lower/indexing.ts';

export interface Access {
  readonly input: Node;
  /** Evaluations of an average input element when every element of the node is computed once. */
  readonly multiplicity: number;
  /** Whether element i (row-major) reads element i of an input of the same size, and no other. */
  readonly samePosition: boolean;
  /**
   * How often a convolution's windows pass over an element, where whatever schedule is chosen first
   * copies the input with its padding, so that the element is evaluated once.
   */
  readonly windows?: number;
}

/** The kinds that are always computed once, into a kernel of their own. */
export function isMainOp(op: OpDef): boolean {
  const { kind } = op.lower;
  return kind !== 'elementwise' && kind !== 'indexed' && kind !== 'leaf';
}

export function isContraction({ op }: Node): boolean {
  return op.lower.kind === 'matmul' || op.lower.kind === 'convolution';
}

/** Finds accesses once per node. */
export class AccessMap {
  readonly target: Target;
  readonly #known = new Map<Node, readonly Access[]>();

  constructor(target: Target) {
    this.target = target;
  }

  /** One entry per read: an input that is read at two places appears twice. */
  of(node: Node): readonly Access[] {
    const known = this.#known.get(node);
    if (known !== undefined) return known;
    const accesses = this.#find(node);
    this.#known.set(node, accesses);
    return accesses;
  }

  #find(node: Node): readonly Access[] {
    const { lower } = node.op;
    switch (lower.kind) {
      case 'elementwise':
        return node.inputs.map((input) => {
          const ratio = sizeRatio(node, input);
          return { input, multiplicity: ratio, samePosition: ratio === 1 };
        });
      case 'indexed':
        return this.#probe(node, lower.emit.bind(lower));
      case 'reduce':
      case 'region':
      case 'result':
        return node.inputs.map((input) => ({ input, multiplicity: 1, samePosition: false }));
      case 'matmul':
        // Packed once per block of the other operand.
        return node.inputs.map((input) => ({ input, multiplicity: 2, samePosition: false }));
      case 'convolution':
        return convolutionAccesses(node, lower.geometry(node.attrs, node), this.target);
      case 'custom': {
        // Where the op does not say: most read every element about once.
        const evaluations = lower.evaluations?.(node.attrs, node);
        return node.inputs.map((input, operand) => ({
          input,
          multiplicity: evaluations?.[operand] ?? 1.25,
          samePosition: false,
        }));
      }
      case 'host':
        throw internalError(`${node.op.name} is computed on the host, not in a plan`);
      case 'leaf':
        return [];
      default:
        lower satisfies never;
        return [];
    }
  }

  /** Emits the op with symbolic indices and looks at what it reads. */
  #probe(
    node: Node,
    emit: (
      context: ReadContext,
      indices: readonly Expression[],
      attrs: Node['attrs'],
      node: Node,
    ) => Expression,
  ): readonly Access[] {
    const builder = new Builder();
    const indices = node.shape.map((size, axis) =>
      size === 1
        ? builder.constant(0)
        : builder.variable(`i${axis}`, 'i32', { min: 0, max: Math.max(size - 1, 0) }),
    );
    const own = flatten(builder, indices, node.shape);
    const accesses: Access[] = [];
    const context: ReadContext = {
      builder,
      target: this.target,
      read: (operand, at) => {
        const input = node.inputs[operand] as Node;
        const position = flatten(builder, at, input.shape);
        const multiplicity = sizeRatio(node, input);
        accesses.push({
          input,
          multiplicity,
          samePosition: multiplicity === 1 && position === own,
        });
        return builder.variable(`x${operand}`, valueTypeOf(input.dtype));
      },
    };
    emit(context, indices, node.attrs, node);
    return accesses;
  }
}

function sizeRatio(node: Node, input: Node): number {
  const size = sizeOf(input.shape);
  return size === 0 ? 1 : sizeOf(node.shape) / size;
}

function convolutionAccesses(
  node: Node,
  { role, stride, groups }: ConvolutionGeometry,
  { vectorBytes, workgroups }: Target,
): readonly Access[] {
  // The window's size: filter axes follow the two channel axes.
  const filter = role === 'backwardFilter' ? node.shape : (node.inputs[1] as Node).shape;
  let taps = 1;
  for (let axis = 2; axis < filter.length; axis++) taps *= filter[axis] as number;
  let step = 1;
  for (const length of stride) step *= length;
  const windows = Math.max(1, taps / step);
  const copies = role === 'forward' && groups === 1 && vectorBytes >= 16 && workgroups !== true;
  return node.inputs.map((input, operand): Access => {
    const access = { input, samePosition: false };
    if (operand !== 0) return { ...access, multiplicity: 2 };
    return { ...access, multiplicity: windows, windows: copies ? windows : 1 };
  });
}
