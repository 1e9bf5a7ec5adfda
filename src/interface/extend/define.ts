// `defineOp`: operations that packages bring. They are operations like all others: part of graphs and
// plan keys, differentiated, traced, fused, and the same on every backend.
import { ArgumentError, DTypeError, internalError, ShapeError } from '../../base/errors.ts';
import { broadcastShapes, sameShape } from '../../base/shape.ts';
import { gradients } from '../../graph/autodiff/gradients.ts';
import type { Node } from '../../graph/node.ts';
import {
  type Attrs,
  type AttrSchema,
  type AttrsOf,
  defineOp as registerOp,
  type GradientContext,
  type GradientRule,
  type Lowering,
  makeNode,
  type OpDef,
  withoutTracking,
  withTracking,
} from '../../graph/op.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { isTensor, tensorOn, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  checkAttrs,
  checkDefinition,
  checkDtypes,
  expectType,
  type GradientOf,
  type OpDefinition,
  type TensorType,
} from './definition.ts';
import { callHost } from './host.ts';
import { KernelCheck, loweringOf } from './kernels.ts';

/** A tensor for each input, then the attributes if there are any. */
export type OpArguments<I extends readonly string[], S extends AttrSchema> = [
  ...inputs: { -readonly [K in keyof I]: Tensor },
  ...attrs: keyof S extends never ? [] : [attrs: AttrsOf<S>],
];

/** An operation as a function of tensors. */
export interface OwnOp<I extends readonly string[], S extends AttrSchema> {
  (...args: OpArguments<I, S>): Tensor;
  readonly opName: string;
}

/** A definition with the types of its inputs and attributes forgotten. */
type Erased = OpDefinition<readonly string[], AttrSchema>;

/** The result's type by the definition's rule, or by broadcasting. */
function typeOf(definition: Erased, inputs: readonly TensorType[], attrs: Attrs): TensorType {
  const { name, inputs: names, dtypes, shape } = definition;
  checkDtypes(name, names, dtypes, inputs);
  if (shape !== undefined) {
    const type = shape(inputs, attrs);
    const sizes = type?.shape;
    if (Array.isArray(sizes) && sizes.every((size) => Number.isInteger(size) && size >= 0)) {
      return { shape: sizes, dtype: type.dtype };
    }
    throw new ShapeError('its shape rule gives no { shape, dtype }', { op: name });
  }
  const [first, ...others] = inputs as [TensorType, ...TensorType[]];
  if (others.some(({ dtype }) => dtype !== first.dtype)) {
    const found = inputs.map(({ dtype }) => dtype).join(', ');
    throw new DTypeError(`inputs of one dtype are expected, not ${found}`, {
      op: name,
      hint: 'convert them with to(), or give the operation a shape rule',
    });
  }
  const sizes = broadcastShapes(name, ...inputs.map((input) => input.shape));
  return { shape: sizes, dtype: first.dtype };
}

/** What a rule gives back, as nodes. Throws for what is no gradient of its input. */
function checkedGradients(
  definition: Erased,
  results: readonly (Tensor | null)[],
  inputs: readonly Node[],
  result: TensorType,
): (Node | null)[] {
  const { name: op, inputs: names, kernel } = definition;
  if (!Array.isArray(results) || results.length !== inputs.length) {
    const count = Array.isArray(results) ? results.length : 'no list of';
    throw new ArgumentError(`${count} gradients for ${inputs.length} input(s)`, {
      op,
      hint: 'the rule gives one for each input, null where none flows',
    });
  }
  return results.map((gradient, i) => {
    if (gradient === null) return null;
    const input = inputs[i] as Node;
    const what = `the gradient of ${names[i]}`;
    if (!isTensor(gradient)) {
      throw new ArgumentError(`${what} is neither a tensor nor null`, { op });
    }
    // One of a broadcast input is summed to its shape.
    const isBroadcast = kernel?.kind === 'elementwise' && sameShape(gradient.shape, result.shape);
    const shape = isBroadcast ? gradient.shape : input.shape;
    expectType(op, what, gradient, { shape, dtype: input.dtype });
    return gradient.node;
  });
}

/** The gradient of a composition that computes the same. */
function gradientsThrough(
  definition: Erased,
  composition: (inputs: readonly Tensor[], attrs: Attrs) => Tensor,
  { inputs: all, attrs, node, grad, needs }: GradientContext<Attrs>,
  skip: number,
): (Node | null)[] {
  const inputs = all.slice(skip);
  const result = withTracking(() => composition(inputs.map(tensorOn), attrs));
  expectType(definition.name, 'the composition of the gradient', result, node);
  const wanted = all.filter((_, i) => i >= skip && needs(i));
  const found = gradients([result.node], [grad], wanted);
  return all.map((input) => found[wanted.indexOf(input)] ?? null);
}

/** A user's gradient as the reverse walk takes it; the first `skip` inputs of nodes are not the user's. */
function ruleOf(
  definition: Erased,
  gradient: GradientOf<readonly string[], Attrs>,
  skip = 0,
): GradientRule<Attrs> {
  if (typeof gradient !== 'function') {
    if ('nonDifferentiable' in gradient) return gradient;
    const { composition } = gradient;
    return (context) => gradientsThrough(definition, composition, context, skip);
  }
  return ({ node, inputs: all, attrs, grad, needs }) => {
    const inputs = all.slice(skip);
    const results = gradient({
      inputs: inputs.map(tensorOn),
      output: tensorOn(node),
      grad: tensorOn(grad),
      attrs,
      needs: (index) => needs(index + skip),
    });
    const nodes = checkedGradients(definition, results, inputs, node);
    return [...Array<null>(skip).fill(null), ...nodes];
  };
}

/** Registers a primitive; tests and tables of this package have nothing to do with it. */
function register(
  { name, attrs = {}, cost }: Erased,
  parts: {
    readonly infer: (inputs: readonly Node[], attrs: Attrs) => TensorType;
    readonly gradient: GradientRule<Attrs>;
    readonly lower: Lowering<Attrs>;
  },
): OpDef {
  return registerOp<AttrSchema>({
    name,
    attrs,
    ...parts,
    ...(cost === undefined ? {} : { cost }),
    isOwn: true,
    summary: '',
    samples: () => [],
    reference: () => {
      throw internalError(`${name} has no reference`);
    },
  });
}

type Call = (inputs: readonly Node[], attrs: Attrs) => Tensor;

function primitive(definition: Erased): Call {
  const { name, kernel, host, gradient } = definition;
  if (gradient === undefined) throw internalError(`${name} has no gradient`);
  const lower: Lowering<Attrs> =
    kernel !== undefined
      ? loweringOf(kernel)
      : {
          kind: 'host',
          run: (inputs, output, attrs) =>
            callHost(name, inputs, output, (ins, out) => host?.(ins, attrs, out)),
        };
  const op = register(definition, {
    infer: (inputs, attrs) => typeOf(definition, inputs, attrs),
    gradient: ruleOf(definition, gradient),
    lower,
  });
  const check = kernel === undefined ? null : new KernelCheck();
  return (inputs, attrs) => {
    check?.run(op, inputs, attrs);
    return wrap(makeNode(op, inputs, attrs));
  };
}

/** Tensor operations; with a gradient of its own, its value passes through a node that knows the rule. */
function composite(definition: Erased): Call {
  const { name, composition, gradient } = definition;
  if (composition === undefined) throw internalError(`${name} has no composition`);
  const compute: Call = (inputs, attrs) => {
    const result = composition(inputs.map(tensorOn), attrs);
    if (!isTensor(result)) throw new ArgumentError('its composition gives no tensor', { op: name });
    if (definition.shape !== undefined) {
      expectType(name, 'its composition', result, typeOf(definition, inputs, attrs));
    } else checkDtypes(name, definition.inputs, definition.dtypes, inputs);
    return result;
  };
  // Its name is taken in any case.
  const op = register(definition, {
    infer: ([value]) => value as Node,
    gradient:
      gradient === undefined
        ? { nonDifferentiable: 'its composition is differentiated' }
        : ruleOf(definition, gradient, 1),
    lower: { kind: 'indexed', view: true, emit: (context, indices) => context.read(0, indices) },
  });
  if (gradient === undefined) return compute;
  return (inputs, attrs) => {
    const { node } = withoutTracking(() => compute(inputs, attrs));
    return wrap(makeNode(op, [node, ...inputs], attrs));
  };
}

/**
 * Defines an operation of a package: a function of tensors that takes part in graphs, gradients, `trace`,
 * fusion and plans like Tengen's own, on every backend. It is a composition of tensor operations, a
 * kernel in the IR, or a function on the host. See docs/custom-ops.md.
 *
 * Throws ArgumentError for a definition that is incomplete, or a name that is taken. Calls throw
 * ShapeError, DTypeError or ArgumentError for what does not fit, and CompileError for a kernel that
 * is broken.
 *
 * @example
 * const squarePlus = defineOp({
 *   name: 'demo.squarePlus',
 *   inputs: ['x'],
 *   attrs: { shift: 'float' },
 *   kernel: {
 *     kind: 'elementwise',
 *     emit: (b, [x], { shift }) => b.add(b.mul(x, x), b.constant(shift, x.type, x.lanes)),
 *   },
 *   gradient: ({ inputs: [x], grad }) => [x.mul(2).mul(grad)],
 * });
 * squarePlus(tensor([1, 2]), { shift: 0.5 }); // => [1.5, 4.5]
 */
export function defineOp<
  const I extends readonly string[],
  const S extends AttrSchema = Readonly<Record<never, never>>,
>(definition: OpDefinition<I, S>): OwnOp<I, S> {
  checkDefinition(definition);
  const erased = { ...definition } as Erased;
  const { name, inputs: names, attrs: schema = {} } = erased;
  const call = erased.composition === undefined ? primitive(erased) : composite(erased);
  const hasAttrs = Object.keys(schema).length > 0;
  const own = (...args: readonly unknown[]): Tensor => {
    if (args.length !== names.length + (hasAttrs ? 1 : 0)) {
      const list = [...names, ...(hasAttrs ? ['attributes'] : [])].join(', ');
      throw new ArgumentError(`${args.length} argument(s)`, { op: name, hint: `it takes ${list}` });
    }
    const nodes = names.map((_, i) => nodeOf(name, args[i] as Tensor));
    const attrs = (hasAttrs ? args[names.length] : {}) as Attrs;
    if (hasAttrs) checkAttrs(name, schema, attrs);
    return call(nodes, attrs);
  };
  return Object.assign(own, { opName: name }) as OwnOp<I, S>;
}
