// Generators of random numbers: a seed and how many Philox blocks were drawn from it.
import { ArgumentError } from '../../base/errors.ts';
import { blocksFor, philoxBits, uniformFromBits } from '../../base/philox.ts';
import { act } from './engine.ts';

/** What a checkpoint saves of a generator. */
export interface GeneratorState {
  readonly seed: number;
  readonly offset: number;
}

/**
 * A stream of random numbers. Every draw fixes its place in the stream when it is made, so the
 * numbers do not depend on when, where or how often they are computed.
 */
export class Generator {
  #seed: number;
  #offset = 0;

  /** `seed`: an integer from 0 to 2^53 - 1. */
  constructor(seed = 0) {
    this.#seed = checkSeed(seed);
  }

  get seed(): number {
    return this.#seed;
  }

  /** The two words of the Philox key. */
  get key(): readonly [number, number] {
    return [this.#seed >>> 0, Math.floor(this.#seed / 4294967296) >>> 0];
  }

  /** Starts the stream of `seed` from its beginning. */
  manualSeed(seed: number): this {
    checkSeed(seed);
    act('manualSeed', () => {
      this.#seed = seed;
      this.#offset = 0;
    });
    return this;
  }

  /** Takes `count` 32-bit words from the stream: returns the number of their first block. */
  reserve(count: number): number {
    const first = this.#offset;
    this.#offset += blocksFor(count);
    return first;
  }

  getState(): GeneratorState {
    return { seed: this.#seed, offset: this.#offset };
  }

  setState(state: GeneratorState): void {
    const { seed, offset } = state;
    checkSeed(seed);
    act('setState', () => {
      this.#seed = seed;
      this.#offset = offset;
    });
  }

  /** `count` numbers in [low, high), computed on the host: for initialization. */
  hostUniform(count: number, low: number, high: number): Float32Array {
    const [seedLow, seedHigh] = this.key;
    const bits = philoxBits(seedLow, seedHigh, this.reserve(count), count);
    const values = new Float32Array(count);
    // A loop: Float32Array.from costs ten times as much.
    for (let i = 0; i < count; i++) {
      values[i] = low + uniformFromBits(bits[i] as number) * (high - low);
    }
    return values;
  }

  /** `count` normal numbers by Box-Muller (1958), computed on the host: for initialization. */
  hostNormal(count: number, mean: number, deviation: number): Float32Array {
    const pairs = Math.ceil(count / 2);
    const uniform = this.hostUniform(pairs * 2, 0, 1);
    const values = new Float32Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(1 - (uniform[i] as number)));
      const angle = 2 * Math.PI * (uniform[i + 1] as number);
      values[i] = mean + deviation * radius * Math.cos(angle);
      // The last of an odd count has no second; a write beyond the end does nothing.
      values[i + 1] = mean + deviation * radius * Math.sin(angle);
    }
    return values;
  }
}

function checkSeed(seed: number): number {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new ArgumentError(`the seed must be an integer from 0 to 2^53 - 1, got ${seed}`, {
      op: 'manualSeed',
    });
  }
  return seed;
}

/** The generator used where none is given. */
export const defaultGenerator = new Generator(0);

/** Seeds the default generator: initialization, dropout and random tensors repeat. */
export function manualSeed(seed: number): Generator {
  return defaultGenerator.manualSeed(seed);
}
