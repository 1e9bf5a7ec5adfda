// Keys and values of a context, so that each new token is computed alone. Shapes never change: what is
// not written yet is masked, and the place is a number, so that one plan serves all of them.
import { checkNumber } from '../../base/checks.ts';
import { ArgumentError, internalError, ShapeError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import { scalar } from '../../graph/ops/leaf.ts';
import * as nn from '../nn/index.ts';
import { where } from '../tensor/arithmetic.ts';
import { arange } from '../tensor/creation.ts';
import { act } from '../tensor/engine.ts';
import { wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** One place of the context. */
export interface Place {
  /** [context, 1]: true there. */
  readonly at: Tensor;
  /** [1, context]: true there and before. */
  readonly seen: Tensor;
}

/** Batch, heads, context, size of a head. */
export type CacheSizes = readonly [batch: number, heads: number, context: number, size: number];

/** Keys and values of one layer, [batch, heads, context, size] each. */
export class LayerCache {
  readonly key: nn.Buffer;
  readonly value: nn.Buffer;

  constructor(sizes: CacheSizes) {
    this.key = new nn.Buffer(new Float32Array(sizeOf(sizes)), sizes);
    this.value = new nn.Buffer(new Float32Array(sizeOf(sizes)), sizes);
  }

  /** Takes over keys and values of the whole context. */
  replace(key: Tensor, value: Tensor): void {
    this.key.assign(key, { inPlace: true });
    this.value.assign(value, { inPlace: true });
  }

  /** Keys and values with those of one place put in. */
  write(key: Tensor, value: Tensor, { at }: Place): [keys: Tensor, values: Tensor] {
    this.replace(where(at, key, this.key), where(at, value, this.value));
    return [this.key, this.value];
  }
}

/**
 * What a decoder remembers of a text: keys and values of each layer, and how many tokens it has read.
 * Made by `GPT.newCache`.
 */
export class KeyValueCache {
  readonly sizes: CacheSizes;
  readonly #layers: readonly LayerCache[];
  #length = 0;

  constructor(layers: number, sizes: CacheSizes) {
    this.sizes = sizes;
    this.#layers = Array.from({ length: layers }, () => new LayerCache(sizes));
  }

  /** Tokens read so far. */
  get length(): number {
    return this.#length;
  }

  /** Most tokens that it holds. */
  get capacity(): number {
    return this.sizes[2];
  }

  layer(index: number): LayerCache {
    const layer = this.#layers[index];
    if (layer === undefined) throw internalError(`a cache of ${this.#layers.length} layers`);
    return layer;
  }

  /** Throws ShapeError unless it was made for this many texts. */
  check(op: string, batch: number): void {
    if (batch === this.sizes[0]) return;
    throw new ShapeError(`${batch} texts, but a cache of ${formatShape(this.sizes)}`, {
      op,
      hint: `newCache(${batch})`,
    });
  }

  /** Forgets what it holds for `count` new tokens: the place of the last. */
  restart(count: number): Place {
    checkNumber('text.KeyValueCache', 'count', count, [1, this.capacity, 'integer']);
    return act('KeyValueCache.restart', () => {
      this.#length = count;
      return this.#place();
    });
  }

  /** The place of the next token. Throws ArgumentError where there is none. */
  advance(): Place {
    return act('KeyValueCache.advance', () => this.#advance());
  }

  #advance(): Place {
    if (this.#length >= this.capacity) {
      throw new ArgumentError(`all ${this.capacity} places of the context are taken`, {
        op: 'text.KeyValueCache',
        hint: 'prefill() with the last tokens starts anew; generate() does that by itself',
      });
    }
    this.#length++;
    return this.#place();
  }

  #place(): Place {
    const places = arange(this.capacity, { dtype: 'int32' });
    // A slot of the plan whatever its value: arithmetic would make constants of 0 and 1.
    const place = wrap(scalar(this.#length - 1, 'int32'));
    return { at: places.eq(place).unsqueeze(1), seen: places.le(place).unsqueeze(0) };
  }
}
