// Random numbers for data: a small generator whose stream is fixed by a seed and any number of keys.

/**
 * A seeded generator (sfc32). `new Random(seed, epoch, index)` always gives the same stream,
 * whatever else was drawn before, so shuffles and augmentations do not depend on order or workers.
 * Only integer and basic floating-point operations are used: every engine draws the same numbers.
 *
 * The class refers to nothing outside itself, because workers receive it as source text.
 */
export class Random {
  private a = 0;
  private b = 0;
  private c = 0;
  private counter = 1;

  constructor(...keys: readonly number[]) {
    let hash = 0x9e3779b9;
    const absorb = (word: number): void => {
      // The finalizer of MurmurHash3 spreads every bit of a key over the whole word.
      hash = Math.imul(hash ^ word, 0x85ebca6b);
      hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
      hash = (hash ^ (hash >>> 16)) + 0x9e3779b9;
    };
    for (const key of keys) {
      absorb(key | 0);
      absorb(Math.floor(key / 4294967296) | 0);
    }
    absorb(keys.length);
    this.a = hash | 0;
    absorb(1);
    this.b = hash | 0;
    absorb(2);
    this.c = hash | 0;
    for (let round = 0; round < 12; round++) this.bits();
  }

  /** 32 random bits as an unsigned integer. */
  bits(): number {
    const sum = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + sum;
    this.c |= 0;
    return sum >>> 0;
  }

  /** Uniform in [0, 1), in steps of 2^-32. */
  float(): number {
    return this.bits() / 4294967296;
  }

  /** Uniform in [low, high). */
  uniform(low: number, high: number): number {
    return low + (high - low) * this.float();
  }

  /** A uniform integer in [0, limit); `limit` is at most 2^32. */
  below(limit: number): number {
    return Math.floor(this.float() * limit);
  }

  /** Roughly normal, mean 0 and deviation 1, never beyond 3.5: the sum of four uniforms. */
  bell(): number {
    return (this.float() + this.float() + this.float() + this.float() - 2) * 1.7320508075688772;
  }
}

/** 0 ... length-1 in random order (Fisher-Yates). */
export function permutation(length: number, random: Random): Int32Array {
  const order = new Int32Array(length);
  for (let index = 0; index < length; index++) order[index] = index;
  for (let last = length - 1; last > 0; last--) {
    const other = random.below(last + 1);
    const value = order[last] as number;
    order[last] = order[other] as number;
    order[other] = value;
  }
  return order;
}

/**
 * Sine and cosine of an angle in radians, by polynomials after reduction to a quarter turn. Error
 * below 1e-9 for |angle| up to 100; the same bits in every engine, which Math.sin does not promise.
 */
export function sinCos(angle: number): { sin: number; cos: number } {
  const quarter = Math.round(angle / 1.5707963267948966);
  const x = angle - quarter * 1.5707963267948966;
  const x2 = x * x;
  const sin =
    x * (1 + x2 * (-1 / 6 + x2 * (1 / 120 + x2 * (-1 / 5040 + x2 * (1 / 362880 - x2 / 39916800)))));
  const cos = 1 + x2 * (-1 / 2 + x2 * (1 / 24 + x2 * (-1 / 720 + x2 * (1 / 40320 - x2 / 3628800))));
  switch (quarter & 3) {
    case 0:
      return { sin, cos };
    case 1:
      return { sin: cos, cos: -sin };
    case 2:
      return { sin: -sin, cos: -cos };
    default:
      return { sin: -cos, cos: sin };
  }
}
