// What a program that is taken down counts itself: numbers that the host would compute anew for each call
// become a part of its graph, and counts a part of its state.
import { type DType, newTypedArray } from '../../base/dtype.ts';
import { scalar } from '../../graph/ops/index.ts';
import {
  add,
  bitwiseAnd,
  bitwiseRightShift,
  div,
  gt,
  maximum,
  minimum,
  mul,
  pow,
  sub,
  where,
} from '../tensor/arithmetic.ts';
import type { Arithmetic, Counting } from '../tensor/counting.ts';
import { fromBytes, tensorOn } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

type Operand = Tensor | number;

/** Counts are int32. */
const COUNT_BITS = 31;

export class ProgramCounting implements Counting {
  /** The states, with the names that they should have. */
  readonly states = new Map<Tensor, string>();
  readonly math: Arithmetic<Tensor>;
  /** What was computed, by what it was computed of: parameters share it. */
  readonly #known = new Map<string, Tensor>();

  constructor() {
    const binary =
      (name: string, compute: (a: Tensor, b: Tensor) => Tensor) =>
      (a: Operand, b: Operand): Tensor =>
        this.#once(name, [a, b], () => compute(asTensor(a), asTensor(b)));
    this.math = {
      add: binary('add', add),
      sub: binary('sub', sub),
      mul: binary('mul', mul),
      div: binary('div', div),
      sqrt: (a) => this.#once('sqrt', [a], () => asTensor(a).sqrt()),
      maximum: binary('maximum', maximum),
      minimum: binary('minimum', minimum),
      power: (base, count) => this.#once('power', [base, count], () => power(base, count)),
      raise: binary('raise', pow),
      ifGreater: (a, b, yes, no) =>
        this.#once('ifGreater', [a, b, yes, no], () =>
          where(gt(asTensor(a), asTensor(b)), asTensor(yes), asTensor(no)),
        ),
    };
  }

  state(name: string, initial: number, dtype: DType): Tensor {
    const values = newTypedArray(dtype, 1);
    values[0] = initial;
    const bytes = new Uint8Array(values.buffer);
    const tensor = fromBytes(bytes, [], dtype, { persistent: true, label: name });
    this.states.set(tensor, name);
    return tensor;
  }

  cast(value: Tensor, dtype: DType): Tensor {
    return this.#once(dtype, [value], () => value.to(dtype));
  }

  #once(name: string, operands: readonly Operand[], make: () => Tensor): Tensor {
    const texts = operands.map((each) => (typeof each === 'number' ? each : `#${each.node.id}`));
    const key = `${name} ${texts.join(' ')}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const made = make();
    this.#known.set(key, made);
    return made;
  }
}

function asTensor(value: Operand): Tensor {
  return typeof value === 'number' ? tensorOn(scalar(value, 'float64')) : value;
}

/** The multiplications of `hostMath.power`, in its order; those with what has become 0 are one. */
function power(base: number, count: Tensor): Tensor {
  const whole = count.to('int32');
  let result = asTensor(1);
  let factor = base;
  for (let bit = 0; bit < COUNT_BITS; bit++) {
    const rest = bit === 0 ? whole : bitwiseRightShift(whole, bit);
    if (factor === 0 || factor === 1) {
      return factor === 1 ? result : where(gt(rest, 0), asTensor(0), result);
    }
    result = where(gt(bitwiseAnd(rest, 1), 0), result.mul(asTensor(factor)), result);
    factor *= factor;
  }
  return result;
}
