// Numbers that follow from how often something was done: a correction, a rate. The host computes them as it
// counts; a program that will run without this host computes them itself, from a count of its own.
import type { DType } from '../../base/dtype.ts';
import type { Tensor } from './tensor.ts';

/** What such numbers are made with. Both kinds give the same bits, but for `raise`. */
export interface Arithmetic<T> {
  add(a: T | number, b: T | number): T;
  sub(a: T | number, b: T | number): T;
  mul(a: T | number, b: T | number): T;
  div(a: T | number, b: T | number): T;
  sqrt(a: T | number): T;
  maximum(a: T | number, b: T | number): T;
  minimum(a: T | number, b: T | number): T;
  /** `base` to a power that is a count: by squares, so that it takes no logarithm. */
  power(base: number, count: T): T;
  /** `a` to any power; `a` is positive. */
  raise(a: T, exponent: number): T;
  /** `yes` where `a > b`, else `no`. */
  ifGreater(a: T | number, b: T | number, yes: T | number, no: T | number): T;
}

/** A number by the count of steps, this one included, and by a number that moves on with it. */
export type Formula = <T>(math: Arithmetic<T>, count: T, running: T) => T;

/** A number that follows from its value one step before. */
export interface Running {
  /** What a program calls it. */
  readonly name: string;
  /** Tells it from others of its name. */
  readonly key: string;
  /** Its value after so many steps: the same bits as by `next`, again and again. */
  at(count: number): number;
  next<T>(math: Arithmetic<T>, count: T, before: T): T;
}

/** A program in the making that will count by itself. */
export interface Counting {
  readonly math: Arithmetic<Tensor>;
  /** A number that belongs to the program's state; runs begin with `initial`. */
  state(name: string, initial: number, dtype: DType): Tensor;
  /** The same number in another dtype. */
  cast(value: Tensor, dtype: DType): Tensor;
}

/** The program that is made of what happens now, or null. */
export const counting: { current: Counting | null } = { current: null };

export const hostMath: Arithmetic<number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  sqrt: Math.sqrt,
  maximum: Math.max,
  minimum: Math.min,
  power(base, count) {
    let result = 1;
    let factor = base;
    for (let rest = count; rest > 0; rest = Math.floor(rest / 2)) {
      if (rest % 2 === 1) result *= factor;
      factor *= factor;
    }
    return result;
  },
  raise: (a, exponent) => a ** exponent,
  ifGreater: (a, b, yes, no) => (a > b ? yes : no),
};
