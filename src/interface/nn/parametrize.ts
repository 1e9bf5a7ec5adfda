// Parametrizations: a parameter computed from others each time it is used, such as a weight of unit
// norm. Names in state dicts are those of torch.nn.utils.parametrize.
import { checkInteger } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import { withoutTracking } from '../../graph/op.ts';
import * as F from '../functional/index.ts';
import { defaultGenerator } from '../tensor/generator.ts';
import { isTensor } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Module, toSnakeCase } from './module.ts';
import { Buffer, Parameter } from './parameter.ts';

/** Computes a parameter from what it is made of. */
export interface Parametrization extends Module {
  forward(...originals: Tensor[]): Tensor;
  /** What gives this value, or a value near it; without it the value itself is what is trained. */
  rightInverse?(value: Tensor): Tensor | readonly Tensor[];
}

/** What a parametrized parameter is made of, and how: held at `module.parametrizations[name]`. */
class ParametrizationList extends Module {
  readonly steps: Parametrization[];
  readonly originals: readonly Tensor[];

  constructor(steps: Parametrization[], originals: readonly Tensor[]) {
    super();
    this.steps = steps;
    this.originals = originals;
  }

  protected override *members(): Generator<[string, Module | Tensor]> {
    const isOne = this.originals.length === 1;
    for (const [i, value] of this.originals.entries()) {
      yield [isOne ? 'original' : `original${i}`, value];
    }
    for (const [i, step] of this.steps.entries()) yield [String(i), step];
  }

  forward(): Tensor {
    const [first, ...rest] = this.steps;
    const start = (first as Parametrization).forward(...this.originals);
    return rest.reduce((value, step) => step.forward(value), start);
  }
}

/** A field of a module; recurrent layers have some that their types do not name. */
type FieldOf<M> = (keyof M & string) | (string & {});

/** Lists by module and field. */
const registered = new WeakMap<Module, Map<string, ParametrizationList>>();

function listOf(module: Module, field: string): ParametrizationList | undefined {
  return registered.get(module)?.get(field);
}

/** Whether a module, or one of its fields, is computed. */
export function isParametrized(module: Module, field?: string): boolean {
  const lists = registered.get(module);
  return lists !== undefined && (field === undefined ? lists.size > 0 : lists.has(field));
}

function checkSame(op: string, field: string, value: unknown, like: Tensor): void {
  if (isTensor(value) && sameShape(value.shape, like.shape)) return;
  const given = isTensor(value) ? formatShape(value.shape) : typeof value;
  throw new ShapeError(
    `${field} is ${formatShape(like.shape)}, the parametrization gives ${given}`,
    {
      op,
    },
  );
}

/**
 * Makes `module[field]`, a parameter, the result of a parametrization of what is trained in its
 * place, `parametrizations.<field>.original`. A second one applies to the result of the first.
 * Optimizers made before hold the old parameter: make them anew. Returns the module.
 *
 * @example
 * class Positive extends nn.Module {
 *   forward(x: Tensor): Tensor {
 *     return x.exp();
 *   }
 *   rightInverse(x: Tensor): Tensor {
 *     return x.log();
 *   }
 * }
 * const layer = nn.init.skip(() => new nn.Linear(1, 1, { bias: false }));
 * layer.weight.setData([2]);
 * register(layer, 'weight', new Positive());
 * layer.forward(tensor([[3]])); // => [[6.000]]
 * layer.stateDict(); // has 'parametrizations.weight.original'
 */
export function register<M extends Module>(
  module: M,
  field: FieldOf<M>,
  parametrization: Parametrization,
): M {
  const op = 'nn.parametrize.register';
  const known = listOf(module, field);
  const present: unknown = Reflect.get(module, field);
  if (!isTensor(present)) {
    throw new ArgumentError(`${module.describe()} has no parameter '${field}'`, { op });
  }
  if (known !== undefined) {
    checkSame(
      op,
      field,
      withoutTracking(() => parametrization.forward(present)),
      present,
    );
    known.steps.push(parametrization);
    return module;
  }
  const inverse = parametrization.rightInverse?.(present) ?? present;
  const values = Array.isArray(inverse) ? (inverse as readonly Tensor[]) : [inverse as Tensor];
  const made = withoutTracking(() => parametrization.forward(...values));
  checkSame(op, field, made, present);
  const isTrained = present instanceof Parameter;
  const originals = values.map((value) => {
    if (value === present) return value;
    return isTrained ? new Parameter(value) : new Buffer(value);
  });
  parametrization.train(module.training);
  const list = new ParametrizationList([parametrization], originals);
  const lists = registered.get(module) ?? new Map<string, ParametrizationList>();
  registered.set(module, lists);
  lists.set(field, list);
  const holder = (Reflect.get(module, 'parametrizations') ?? {}) as Record<string, Module>;
  // In files names are those of PyTorch.
  holder[toSnakeCase(field)] = list;
  Reflect.set(module, 'parametrizations', holder);
  // Not enumerable: the walk over members must not compute it, and finds the originals in the list.
  Object.defineProperty(module, field, {
    configurable: true,
    enumerable: false,
    get: () => list.forward(),
  });
  return module;
}

/**
 * Makes a parametrized field a plain parameter again: with its present value, or with
 * `leaveParametrized: false` with that of the original, where there is one of its shape.
 */
export function removeParametrizations<M extends Module>(
  module: M,
  field: FieldOf<M>,
  options: { readonly leaveParametrized?: boolean } = {},
): M {
  const op = 'nn.parametrize.removeParametrizations';
  const list = listOf(module, field);
  if (list === undefined) {
    throw new ArgumentError(`'${field}' of ${module.describe()} is not parametrized`, { op });
  }
  const value = withoutTracking(() => list.forward());
  const [original] = list.originals;
  const isSingle = list.originals.length === 1 && sameShape(original?.shape ?? [], value.shape);
  const leave = options.leaveParametrized ?? true;
  if (!leave && !isSingle) {
    throw new ArgumentError(`'${field}' has no original of its shape to go back to`, { op });
  }
  let plain: Tensor;
  if (isSingle && original !== undefined) {
    // The same object, so that optimizers of the parametrized module go on.
    if (leave) original.setData(value.dataSync());
    plain = original;
  } else {
    const isTrained = list.originals.some((item) => item instanceof Parameter);
    plain = isTrained ? new Parameter(value) : new Buffer(value);
  }
  registered.get(module)?.delete(field);
  const holder = Reflect.get(module, 'parametrizations') as Record<string, Module>;
  delete holder[toSnakeCase(field)];
  if (Object.keys(holder).length === 0) Reflect.deleteProperty(module, 'parametrizations');
  Object.defineProperty(module, field, {
    configurable: true,
    enumerable: true,
    writable: true,
    value: plain,
  });
  return module;
}

// ---- weight norm ------------------------------------------------------------------------------

class WeightNorm extends Module implements Parametrization {
  readonly #axis: number | null;

  constructor(axis: number | null) {
    super();
    this.#axis = axis;
  }

  #norm(value: Tensor): Tensor {
    const axes = value.shape.map((_, i) => i).filter((i) => i !== this.#axis);
    return value
      .square()
      .sum(axes, { keepdims: this.#axis !== null })
      .sqrt();
  }

  forward(...[magnitude, direction]: Tensor[]): Tensor {
    const v = direction as Tensor;
    return v.mul((magnitude as Tensor).div(this.#norm(v)));
  }

  rightInverse(value: Tensor): readonly Tensor[] {
    return [this.#norm(value), value];
  }
}

/**
 * Trains a weight's length and direction apart (Salimans and Kingma 2016): `g * v / ‖v‖`, norms over
 * all axes but `axis` (default 0), or with null over all. `original0` is g, `original1` v.
 *
 * @example
 * const layer = weightNorm(new nn.Linear(2, 3));
 * [...layer.namedParameters()].map(([name]) => name);
 * // => ['bias', 'parametrizations.weight.original0', 'parametrizations.weight.original1']
 */
export function weightNorm<M extends Module>(
  module: M,
  field: FieldOf<M> = 'weight',
  axis: number | null = 0,
): M {
  return register(module, field, new WeightNorm(axis));
}

// ---- spectral norm ----------------------------------------------------------------------------

export interface SpectralNormOptions {
  /** Power iterations of each use in training; default 1. */
  readonly nPowerIterations?: number;
  /** Least norm; default 1e-12. */
  readonly eps?: number;
  /** The axis of outputs; default 0. */
  readonly axis?: number;
}

/** What power iterations start with, before the first use. */
const FIRST_ITERATIONS = 15;

class SpectralNorm extends Module implements Parametrization {
  readonly _u: Buffer;
  readonly _v: Buffer;
  readonly #iterations: number;
  readonly #eps: number;
  readonly #axis: number;

  constructor(weight: Tensor, options: SpectralNormOptions) {
    super();
    const op = 'nn.spectralNorm';
    if (weight.ndim < 2) {
      throw new ShapeError(`takes a weight of 2 axes or more, got ${formatShape(weight.shape)}`, {
        op,
        hint: 'weightNorm normalizes vectors',
      });
    }
    this.#iterations = checkInteger(op, 'nPowerIterations', options.nPowerIterations ?? 1, 1);
    this.#eps = options.eps ?? 1e-12;
    this.#axis = options.axis ?? 0;
    const matrix = this.#matrix(weight);
    const [rows = 0, columns = 0] = matrix.shape;
    const start = (size: number): Buffer =>
      new Buffer(Float32Array.from(defaultGenerator.hostNormal(size, 0, 1)), [size], weight.dtype);
    this._u = start(rows);
    this._v = start(columns);
    withoutTracking(() => this.#iterate(matrix.detach(), FIRST_ITERATIONS));
  }

  /** The weight as [outputs, everything else]. */
  #matrix(weight: Tensor): Tensor {
    const axis = this.#axis < 0 ? this.#axis + weight.ndim : this.#axis;
    const order = [axis, ...weight.shape.map((_, i) => i).filter((i) => i !== axis)];
    return weight.permute(order).reshape(weight.shape[axis] as number, -1);
  }

  #iterate(matrix: Tensor, count: number): void {
    const unit = (x: Tensor): Tensor => F.normalize(x, { axis: 0, eps: this.#eps });
    let [u, v]: [Tensor, Tensor] = [this._u, this._v];
    for (let i = 0; i < count; i++) {
      u = unit(matrix.mv(v));
      v = unit(matrix.t().mv(u));
    }
    this._u.assign(u);
    this._v.assign(v);
  }

  forward(...[weight]: Tensor[]): Tensor {
    const matrix = this.#matrix(weight as Tensor);
    if (this.training) {
      withoutTracking(() => this.#iterate(matrix.detach(), this.#iterations));
    }
    const sigma = this._u.detach().dot(matrix.mv(this._v.detach()));
    return (weight as Tensor).div(sigma);
  }
}

/**
 * Divides a weight by its largest singular value, estimated by power iteration (Miyato et al. 2018).
 * Each use in training improves the estimate, which is saved in the buffers `_u` and `_v`.
 */
export function spectralNorm<M extends Module>(
  module: M,
  field: FieldOf<M> = 'weight',
  options: SpectralNormOptions = {},
): M {
  const weight: unknown = Reflect.get(module, field);
  if (!isTensor(weight)) {
    throw new ArgumentError(`${module.describe()} has no parameter '${field}'`, {
      op: 'nn.spectralNorm',
    });
  }
  return register(module, field, new SpectralNorm(weight, options));
}
