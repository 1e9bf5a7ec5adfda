// Numbers that a transform multiplies with: roots of unity, computed in float64 and kept for the next
// transform of the same length.
import { byteSize } from '../../base/dtype.ts';
import type { Shape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { defaultDeviceName } from '../../runtime/registry.ts';
import { encodeNumbers } from '../tensor/encode.ts';
import { fromBytes } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Bytes of tables that are kept at most; those not used for longest go first. */
const KEPT_BYTES = 64 * 2 ** 20;

const kept = new Map<string, Tensor>();
let keptBytes = 0;

/** A table by name, for use with `like`; made by `fill` if it is not there. */
export function table(like: Node, name: string, shape: Shape, fill: () => Float64Array): Node {
  const { dtype } = like;
  // A table moves to the device that uses it: each device has its own.
  const key = `${name}/${dtype}/${like.device ?? defaultDeviceName()}`;
  const known = kept.get(key);
  if (known !== undefined) {
    kept.delete(key);
    kept.set(key, known);
    return known.node;
  }
  const host = encodeNumbers('fft', fill(), dtype);
  const bytes = new Uint8Array(host.buffer, host.byteOffset, host.byteLength);
  const made = fromBytes(bytes, shape, dtype, { label: `fft ${name}` });
  kept.set(key, made);
  keptBytes += bytes.length;
  for (const [oldest, dropped] of kept) {
    if (keptBytes <= KEPT_BYTES || oldest === key) break;
    kept.delete(oldest);
    keptBytes -= dropped.size * byteSize(dropped.dtype);
  }
  return made.node;
}

/** cos and sin of 2π k / n, exact to the last bit where they are 0, 1 or -1. */
export function root(k: number, n: number): readonly [cosine: number, sine: number] {
  const place = ((k % n) + n) % n;
  const eighths = (8 * place) / n;
  if (eighths % 2 === 0) {
    const quarter = eighths / 2;
    return [
      [1, 0],
      [0, 1],
      [-1, 0],
      [0, -1],
    ][quarter] as [number, number];
  }
  const angle = (2 * Math.PI * place) / n;
  return [Math.cos(angle), Math.sin(angle)];
}

/** What goes into a product with a matrix of roots, and what comes out: pairs, or real parts alone. */
export interface Parts {
  readonly realInput: boolean;
  readonly realOutput: boolean;
  /** Results that are wanted: all of them, or the first. */
  readonly outputs: number;
}

/**
 * The matrix of exp(±2πi j k / n) as real numbers: inputs j as rows, first all real parts, then all
 * imaginary ones, outputs k as columns in the same order, unless `parts` say otherwise.
 */
export function rootMatrix(like: Node, n: number, sign: 1 | -1, parts: Parts): Node {
  const { realInput, realOutput, outputs } = parts;
  const [inner, outer] = [realInput ? 1 : 2, realOutput ? 1 : 2];
  const columns = outputs * outer;
  const name = `matrix ${n} ${sign} ${inner} ${outer} ${outputs}`;
  return table(like, name, [n * inner, columns], () => {
    const data = new Float64Array(n * inner * columns);
    for (let j = 0; j < n; j++) {
      for (let k = 0; k < outputs; k++) {
        const [cosine, plain] = root(j * k, n);
        const sine = sign * plain;
        const at = j * columns + k;
        const below = at + n * columns;
        data[at] = cosine;
        if (!realOutput) data[at + outputs] = sine;
        if (realInput) continue;
        data[below] = -sine;
        if (!realOutput) data[below + outputs] = cosine;
      }
    }
    return data;
  });
}

/**
 * Complex factors as `turn` takes them: [.., 2, n] with the real part twice, and with the imaginary
 * part negative and positive. `factor` gives number `k` of row `j`.
 */
export function factorTables(
  like: Node,
  name: string,
  [rows, n]: readonly [number, number],
  factor: (j: number, k: number) => readonly [real: number, imaginary: number],
): readonly [Node, Node] {
  const fill = (pair: (re: number, im: number) => readonly [number, number]) => () => {
    const data = new Float64Array(rows * 2 * n);
    for (let j = 0; j < rows; j++) {
      for (let k = 0; k < n; k++) {
        const [first, second] = pair(...factor(j, k));
        data[2 * j * n + k] = first;
        data[(2 * j + 1) * n + k] = second;
      }
    }
    return data;
  };
  const shape = [rows, 2, n];
  return [
    table(
      like,
      `${name} re ${rows} ${n}`,
      shape,
      fill((re) => [re, re]),
    ),
    table(
      like,
      `${name} im ${rows} ${n}`,
      shape,
      fill((_, im) => [-im, im]),
    ),
  ];
}
