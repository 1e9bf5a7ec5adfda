// L-BFGS: quasi-Newton steps from the last few changes of parameters and gradients.
import { checkFunction, type OptionRules, POSITIVE, readOptions } from '../../base/checks.ts';
import { promote } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import { withoutTracking } from '../../graph/op.ts';
import { eq, where } from '../tensor/arithmetic.ts';
import { arange, tensor, zeros } from '../tensor/creation.ts';
import { engine } from '../tensor/engine.ts';
import { isTensor, readyToCopy } from '../tensor/handle.ts';
import { cat, stack } from '../tensor/joining.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type LinePoint, strongWolfe } from './line-search.ts';
import { checkParameter, listParameters, slot } from './optimizer.ts';

export interface LBFGSOptions {
  /** Default 1. */
  readonly lr?: number;
  /** Most iterations of a step; default 20. */
  readonly maxIter?: number;
  /** Most evaluations of the closure in a step; default 1.25 * maxIter. */
  readonly maxEval?: number;
  /** A step ends where no gradient exceeds this; default 1e-7. */
  readonly toleranceGrad?: number;
  /** A step ends where nothing changes by more than this; default 1e-9. */
  readonly toleranceChange?: number;
  /** Changes that are remembered; default 100. Each costs two copies of the parameters. */
  readonly historySize?: number;
  /** Default none: every iteration goes by `lr`. */
  readonly lineSearchFn?: 'strongWolfe' | null;
}

const RULES: OptionRules<Omit<LBFGSOptions, 'lineSearchFn' | 'maxEval'>> = {
  lr: [POSITIVE, 1],
  maxIter: [[1, Infinity, 'integer'], 20],
  toleranceGrad: [[0], 1e-7],
  toleranceChange: [[0], 1e-9],
  historySize: [[1, Infinity, 'integer'], 100],
};

type Settings = Required<Omit<LBFGSOptions, 'lineSearchFn' | 'maxEval'>> & { maxEval: number };

/** Saved form of an L-BFGS optimizer. */
export interface LBFGSState {
  readonly optimizer: 'LBFGS';
  /** Numbers, and the tensors of the history if there is one. */
  readonly numbers: Readonly<Record<string, number>>;
  readonly gram: readonly number[];
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/** Loss and gradient at a place, read. */
interface Evaluation {
  readonly loss: number;
  readonly gradient: Tensor;
}

/** What the host knows of a gradient along a direction. */
interface Slopes {
  /** gradient · direction. */
  readonly along: number;
  readonly largest: number;
  readonly sum: number;
}

/**
 * L-BFGS (Nocedal 1980; two loops of Nocedal and Wright 2006, algorithm 7.4), as PyTorch's. `step`
 * takes a closure that computes the loss and its gradients, which it calls several times, and
 * reads values in between: it is asynchronous on every device. The history is kept as two matrices;
 * the two loops run on the host over their inner products (Chen et al. 2014), so that an iteration
 * is the same plan however long the history is.
 *
 * @example
 * const w = new nn.Parameter(tensor([-1.5, 2]));
 * const lbfgs = new LBFGS([w], { lineSearchFn: 'strongWolfe', maxIter: 40 });
 * await lbfgs.step(() => {
 *   lbfgs.zeroGrad();
 *   const [x, y] = [w.select(0, 0), w.select(0, 1)];
 *   const loss = x.neg().add(1).square().add(y.sub(x.square()).square().mul(100));
 *   loss.backward();
 *   return loss;
 * });
 * w.mul(100).round(); // => [100, 100]
 */
export class LBFGS {
  static readonly name = 'LBFGS';
  /** One group: `lr` may be changed between steps, by hand or by a schedule. */
  readonly paramGroups: { readonly params: Tensor[]; lr: number }[];

  readonly #settings: Settings;
  readonly #search: boolean;
  readonly #size: number;
  /** Changes of parameters, then of gradients, [2 * historySize, size]; null before the first. */
  #history: Tensor | null = null;
  /** Inner products of the rows of the history, row-major. */
  #gram: Float64Array;
  /** Rows that hold changes, oldest first. */
  #rows: number[] = [];
  #iterations = 0;
  #evaluations = 0;
  #direction: Tensor | null = null;
  #gradient: Tensor | null = null;
  #stepLength = 0;
  #scale = 1;

  constructor(parameters: Iterable<Tensor>, options: LBFGSOptions = {}) {
    const op = 'LBFGS';
    const { lineSearchFn = null, maxEval, ...rest } = options;
    const settings = readOptions(op, rest, RULES);
    if (lineSearchFn !== null && lineSearchFn !== 'strongWolfe') {
      throw new ArgumentError(`lineSearchFn must be 'strongWolfe' or null`, { op });
    }
    this.#settings = { ...settings, maxEval: maxEval ?? Math.floor(settings.maxIter * 1.25) };
    this.#search = lineSearchFn !== null;
    const params = listParameters(op, parameters) as readonly Tensor[];
    if (params.length === 0) {
      throw new ArgumentError('got no parameters', { op, hint: 'pass model.parameters()' });
    }
    for (const param of params) checkParameter(op, param);
    this.paramGroups = [{ params: [...params], lr: settings.lr }];
    this.#size = params.reduce((sum, { size }) => sum + size, 0);
    this.#gram = new Float64Array((2 * settings.historySize) ** 2);
  }

  /** Forgets all gradients. */
  zeroGrad(): void {
    for (const param of this.#params) param.grad = null;
  }

  get #params(): readonly Tensor[] {
    return this.paramGroups[0]?.params ?? [];
  }

  /**
   * Iterates until nothing changes, or the counts are used up. `closure` clears the gradients,
   * computes the loss, calls `backward` on it, and returns it. Resolves to the first loss.
   */
  async step(closure: () => Tensor): Promise<number> {
    checkFunction('LBFGS.step', closure);
    const { maxIter, maxEval, toleranceGrad, toleranceChange } = this.#settings;
    const first = await this.#evaluate(closure);
    let evaluations = 1;
    this.#evaluations++;
    let present = first;
    let { largest } = await this.#slopes(present.gradient, present.gradient);
    if (largest <= toleranceGrad) return first.loss;
    for (let iteration = 1; iteration <= maxIter; iteration++) {
      await this.#nextDirection(present.gradient);
      const direction = this.#direction as Tensor;
      const slopes = await this.#slopes(present.gradient, direction);
      const reach = await largestOf(direction);
      const lr = this.paramGroups[0]?.lr ?? 1;
      this.#stepLength = this.#iterations === 1 ? Math.min(1, 1 / slopes.sum) * lr : lr;
      this.#gradient = present.gradient;
      if (slopes.along > -toleranceChange) break;
      const before = present.loss;
      if (this.#search) {
        const found = await this.#searchLine(closure, present, slopes.along, reach);
        present = found.point.payload;
        this.#stepLength = found.point.step;
        evaluations += found.evaluations;
        this.#evaluations += found.evaluations;
      } else {
        this.#moveTo(this.#place(), direction, this.#stepLength);
        if (iteration === maxIter) break;
        present = await this.#evaluate(closure);
        evaluations++;
        this.#evaluations++;
      }
      largest = await largestOf(present.gradient);
      if (iteration === maxIter || evaluations >= maxEval || largest <= toleranceGrad) break;
      if (reach * this.#stepLength <= toleranceChange) break;
      if (Math.abs(present.loss - before) < toleranceChange) break;
    }
    return first.loss;
  }

  // ---- places ---------------------------------------------------------------------------------

  /** All parameters in a row. */
  #place(): Tensor {
    return withoutTracking(() => joined(this.#params));
  }

  /** The parameters become `from + length * direction`. */
  #moveTo(from: Tensor, direction: Tensor, length: number): void {
    withoutTracking(() => {
      const place = from.add(direction.mul(slot(length, direction)));
      let start = 0;
      for (const param of this.#params) {
        param.assign(place.narrow(0, start, param.size).reshape(param.shape));
        start += param.size;
      }
    });
    // Gradients are asked for by stored values.
    engine().step();
  }

  /** Loss and gradient where the parameters are now; computes what is pending. */
  async #evaluate(closure: () => Tensor): Promise<Evaluation> {
    const loss = closure();
    if (!isTensor(loss) || loss.size !== 1) {
      throw new ArgumentError('the closure must return the loss, a tensor of one element', {
        op: 'LBFGS.step',
      });
    }
    const gradient = withoutTracking(() =>
      joined(this.#params.map((param) => param.grad ?? zeros(param.shape, { dtype: param.dtype }))),
    ).detach();
    loss.keep();
    gradient.keep();
    engine().step();
    return { loss: await loss.item(), gradient };
  }

  async #searchLine(
    closure: () => Tensor,
    start: Evaluation,
    slope: number,
    magnitude: number,
  ): Promise<{ point: LinePoint<Evaluation>; evaluations: number }> {
    const direction = this.#direction as Tensor;
    const place = this.#place().clone().keep();
    engine().step();
    const at = async (step: number): Promise<LinePoint<Evaluation>> => {
      this.#moveTo(place, direction, step);
      const payload = await this.#evaluate(closure);
      const { along } = await this.#slopes(payload.gradient, direction);
      return { step, value: payload.loss, slope: along, payload };
    };
    const { toleranceChange } = this.#settings;
    const found = await strongWolfe(
      at,
      { step: 0, value: start.loss, slope, payload: start },
      this.#stepLength,
      { magnitude, toleranceChange, maxEvaluations: 25 },
    );
    this.#moveTo(place, direction, found.point.step);
    return found;
  }

  async #slopes(gradient: Tensor, direction: Tensor): Promise<Slopes> {
    const size = gradient.abs();
    const numbers = stack([gradient.mul(direction).sum(), size.max(), size.sum()]);
    const [along, largest, sum] = (await numbers.data()) as Float32Array;
    return { along: along ?? NaN, largest: largest ?? NaN, sum: sum ?? NaN };
  }

  // ---- directions -----------------------------------------------------------------------------

  /** The direction from `gradient` on, with the last change taken into the history. */
  async #nextDirection(gradient: Tensor): Promise<void> {
    this.#iterations++;
    const [direction, before] = [this.#direction, this.#gradient];
    if (direction === null || before === null) {
      this.#direction = computed(withoutTracking(() => gradient.neg()));
      return;
    }
    const moved = withoutTracking(() => direction.mul(slot(this.#stepLength, direction)));
    const change = withoutTracking(() => gradient.sub(before));
    const products = await stack([change.mul(moved).sum(), change.square().sum()]).data();
    const [curvature = 0, square = 0] = products as Float32Array;
    if (curvature > 1e-10) await this.#remember(moved, change, curvature / square);
    await this.#combine(gradient);
  }

  /** Puts a change in the place of the oldest, and its inner products into the Gram matrix. */
  async #remember(moved: Tensor, change: Tensor, scale: number): Promise<void> {
    const { historySize } = this.#settings;
    const isFull = this.#rows.length === historySize;
    const row = isFull ? (this.#rows.shift() as number) : this.#rows.length;
    const history = this.#history ?? zeros([2 * historySize, this.#size], { dtype: moved.dtype });
    const { products, next } = withoutTracking(() => {
      const rows = arange(2 * historySize, { dtype: 'int32' }).unsqueeze(1);
      const placed = where(eq(rows, slot(row, rows)), moved, history);
      const whole = where(eq(rows, slot(row + historySize, rows)), change, placed);
      return { next: whole, products: whole.matmul(stack([moved, change], 1)) };
    });
    engine().keep(next.node);
    engine().evaluate([next.node, products.node]);
    this.#history = next;
    this.#rows.push(row);
    this.#scale = scale;
    const values = await products.data();
    const width = 2 * historySize;
    for (let i = 0; i < width; i++) {
      for (const [column, at] of [row, row + historySize].entries()) {
        const value = values[2 * i + column] as number;
        this.#gram[i * width + at] = value;
        this.#gram[at * width + i] = value;
      }
    }
  }

  /** -H gradient, as a combination of the gradient and the rows of the history. */
  async #combine(gradient: Tensor): Promise<void> {
    const history = this.#history;
    if (history === null) {
      this.#direction = computed(withoutTracking(() => gradient.neg()));
      return;
    }
    const products = await withoutTracking(() => history.matmul(gradient)).data();
    const { coefficients, ofGradient } = this.#twoLoops(products);
    this.#direction = computed(
      withoutTracking(() => {
        const factors = tensor(coefficients, { dtype: gradient.dtype });
        return factors.matmul(history).add(gradient.mul(slot(ofGradient, gradient)));
      }),
    );
  }

  /** The two loops over coefficients: every vector in them is a combination of known ones. */
  #twoLoops(products: ArrayLike<number>): { coefficients: Float64Array; ofGradient: number } {
    const { historySize } = this.#settings;
    const width = 2 * historySize;
    const q = new Float64Array(width);
    let ofGradient = -1;
    /** Inner product of a row with the combination. */
    const dot = (row: number): number => {
      let total = ofGradient * (products[row] as number);
      for (const known of this.#rows) {
        for (const at of [known, known + historySize]) {
          total += (q[at] as number) * (this.#gram[row * width + at] as number);
        }
      }
      return total;
    };
    const add = (row: number, by: number): void => {
      q[row] = (q[row] as number) + by;
    };
    const alphas = new Map<number, number>();
    const inverse = (row: number): number =>
      1 / (this.#gram[row * width + row + historySize] as number);
    for (const row of this.#rows.toReversed()) {
      const alpha = dot(row) * inverse(row);
      alphas.set(row, alpha);
      add(row + historySize, -alpha);
    }
    for (let i = 0; i < width; i++) q[i] = (q[i] as number) * this.#scale;
    ofGradient *= this.#scale;
    for (const row of this.#rows) {
      const beta = dot(row + historySize) * inverse(row);
      add(row, (alphas.get(row) as number) - beta);
    }
    return { coefficients: q, ofGradient };
  }

  // ---- saving ---------------------------------------------------------------------------------

  /** Tensors (not copies) and numbers from which a step goes on. */
  stateDict(): LBFGSState {
    const tensors = {
      history: this.#history,
      direction: this.#direction,
      gradient: this.#gradient,
    };
    const present = Object.entries(tensors).filter(
      (entry): entry is [string, Tensor] => entry[1] !== null,
    );
    return {
      optimizer: 'LBFGS',
      numbers: {
        lr: this.paramGroups[0]?.lr ?? 1,
        iterations: this.#iterations,
        evaluations: this.#evaluations,
        stepLength: this.#stepLength,
        scale: this.#scale,
        newest: this.#rows.at(-1) ?? -1,
        count: this.#rows.length,
      },
      gram: [...this.#gram],
      tensors: Object.fromEntries(present),
    };
  }

  /** Takes over what `stateDict` gave, or nothing if it does not fit. */
  loadStateDict(saved: LBFGSState): void {
    const op = 'LBFGS.loadStateDict';
    const { historySize } = this.#settings;
    if (saved?.optimizer !== 'LBFGS' || saved.gram?.length !== this.#gram.length) {
      throw new ArgumentError('the state is of another optimizer, or of another history size', {
        op,
      });
    }
    const read = (name: string, shape: readonly number[]): Tensor | null => {
      const value = saved.tensors[name];
      if (value === undefined) return null;
      if (isTensor(value) && sameShape(value.shape, shape)) return value;
      const given = isTensor(value) ? formatShape(value.shape) : typeof value;
      throw new ShapeError(`${name} is ${given}, expected ${formatShape(shape)}`, { op });
    };
    const history = read('history', [2 * historySize, this.#size]);
    const direction = read('direction', [this.#size]);
    const gradient = read('gradient', [this.#size]);
    const given = [history, direction, gradient].filter((value) => value !== null);
    readyToCopy(given, given);
    const { lr, iterations, evaluations, stepLength, scale, newest, count } = saved.numbers;
    const [last = -1, filled = 0] = [newest, count];
    for (const group of this.paramGroups) group.lr = lr ?? group.lr;
    [this.#history, this.#direction, this.#gradient] = [history, direction, gradient];
    this.#iterations = iterations ?? 0;
    this.#evaluations = evaluations ?? 0;
    this.#stepLength = stepLength ?? 0;
    this.#scale = scale ?? 1;
    this.#gram = Float64Array.from(saved.gram);
    // Rows are filled in order and reused in turn.
    this.#rows = Array.from(
      { length: filled },
      (_, i) => (last + 1 - filled + i + historySize) % historySize,
    );
  }
}

/** Tensors as one of one axis, in their common dtype. */
function joined(tensors: readonly Tensor[]): Tensor {
  const dtype = tensors.map((x) => x.dtype).reduce(promote);
  return cat(tensors.map((x) => x.reshape(-1).to(dtype)));
}

/** The value on its own, so that its history is not kept and later assignments do not matter. */
function computed(x: Tensor): Tensor {
  engine().keep(x.node);
  engine().evaluate([x.node]);
  return x;
}

async function largestOf(x: Tensor): Promise<number> {
  return withoutTracking(() => x.abs().max()).item();
}
