// Kernels of the kind a training step has, for the experiments: elementwise loops with
// polynomials, reductions and matrix-product micro-kernels, a few hundred instructions each.
import { I32, V128, op } from './tiny-wasm.ts';
import type { Code, TinyFunction } from './tiny-wasm.ts';

const step = (local: number, by: number): Code => [
  ...op.get(local),
  ...op.i32(by),
  ...op.add,
  ...op.set(local),
];

/** Counts `local` down by one and branches back to the innermost loop while it is not 0. */
const downTo0 = (local: number): Code => [
  ...op.get(local),
  ...op.i32(1),
  ...op.sub,
  ...op.tee(local),
  ...op.branchIf(0),
];

/** y[i] = polynomial(x[i]) of the given degree. Parameters: x, y, number of 16-float groups. */
export function elementwise(seed: number, degree: number, exportAs?: string): TinyFunction {
  const vectors = 4;
  const code: number[] = [];
  for (let v = 0; v < vectors; v++) {
    code.push(...op.get(0), ...op.v128load(16 * v), ...op.set(3 + v));
    code.push(...op.splatConst(seed + 0.125), ...op.set(7 + v));
  }
  for (let term = 0; term < degree; term++) {
    for (let v = 0; v < vectors; v++) {
      code.push(...op.get(7 + v), ...op.get(3 + v), ...op.f32x4mul);
      code.push(...op.splatConst(seed / (term + 1)), ...op.f32x4add, ...op.set(7 + v));
    }
  }
  for (let v = 0; v < vectors; v++) {
    code.push(...op.get(1), ...op.get(7 + v), ...op.splatConst(0), ...op.f32x4max);
    code.push(...op.v128store(16 * v));
  }
  const body = op.loop([...code, ...step(0, 64), ...step(1, 64), ...downTo0(2)]);
  const locals = Array<number>(2 * vectors).fill(V128);
  return { parameters: 3, locals, body, ...(exportAs === undefined ? {} : { exportAs }) };
}

/** y[0] += sum((x[i] - shift)^2), eight accumulators. Parameters: x, y, 32-float groups. */
export function reduction(seed: number, exportAs?: string): TinyFunction {
  const vectors = 8;
  const code: number[] = [];
  for (let v = 0; v < vectors; v++) {
    code.push(...op.get(0), ...op.v128load(16 * v), ...op.splatConst(seed), ...op.f32x4sub);
    code.push(...op.tee(3 + vectors), ...op.get(3 + vectors), ...op.f32x4mul);
    code.push(...op.get(3 + v), ...op.f32x4add, ...op.set(3 + v));
  }
  const sum: number[] = [...op.get(1), ...op.get(1), ...op.v128load(0)];
  for (let v = 0; v < vectors; v++) sum.push(...op.get(3 + v), ...op.f32x4add);
  sum.push(...op.v128store(0));
  const body = [...op.loop([...code, ...step(0, 128), ...downTo0(2)]), ...sum];
  const locals = Array<number>(vectors + 1).fill(V128);
  return { parameters: 3, locals, body, ...(exportAs === undefined ? {} : { exportAs }) };
}

export interface Tile {
  readonly rows: number;
  /** Vectors of 4 per row. */
  readonly vectors: number;
  /** Steps of k in one turn of the inner loop. */
  readonly unroll: number;
  readonly relaxed: boolean;
}

/**
 * C tile += A panel x B panel, packed, `panels` times over (C rows are contiguous). Parameters:
 * a, b, c, k, panels. `seed` scales the result, so that no two kernels are the same.
 */
export function microKernel(tile: Tile, seed: number, exportAs?: string): TinyFunction {
  const { rows, vectors, unroll, relaxed } = tile;
  const [pa, pb, k, x] = [5, 6, 7, 8];
  const b = (v: number): number => 9 + v;
  const acc = (row: number, v: number): number => 9 + vectors + row * vectors + v;
  const inner: number[] = [];
  for (let u = 0; u < unroll; u++) {
    for (let v = 0; v < vectors; v++) {
      inner.push(...op.get(pb), ...op.v128load(16 * (u * vectors + v)), ...op.set(b(v)));
    }
    for (let row = 0; row < rows; row++) {
      inner.push(...op.get(pa), ...op.v128load32splat(4 * (u * rows + row)), ...op.set(x));
      for (let v = 0; v < vectors; v++) {
        if (relaxed) {
          inner.push(...op.get(x), ...op.get(b(v)), ...op.get(acc(row, v)), ...op.f32x4madd);
        } else {
          inner.push(...op.get(acc(row, v)), ...op.get(x), ...op.get(b(v)));
          inner.push(...op.f32x4mul, ...op.f32x4add);
        }
        inner.push(...op.set(acc(row, v)));
      }
    }
  }
  const clear: number[] = [];
  const store: number[] = [];
  for (let row = 0; row < rows; row++) {
    for (let v = 0; v < vectors; v++) {
      const offset = 16 * (row * vectors + v);
      clear.push(...op.splatConst(0), ...op.set(acc(row, v)));
      store.push(...op.get(2), ...op.get(2), ...op.v128load(offset), ...op.get(acc(row, v)));
      store.push(...op.splatConst(seed), ...op.f32x4mul, ...op.f32x4add, ...op.v128store(offset));
    }
  }
  const oneTile: Code = [
    ...clear,
    ...op.get(0),
    ...op.set(pa),
    ...op.get(1),
    ...op.set(pb),
    ...op.get(3),
    ...op.i32(unroll),
    ...op.divU,
    ...op.set(k),
    ...op.loop([
      ...inner,
      ...step(pa, 4 * rows * unroll),
      ...step(pb, 16 * vectors * unroll),
      ...downTo0(k),
    ]),
    ...store,
  ];
  const locals = [I32, I32, I32, ...Array<number>(1 + vectors + rows * vectors).fill(V128)];
  const body = op.loop([...oneTile, ...downTo0(4)]);
  return { parameters: 5, locals, body, ...(exportAs === undefined ? {} : { exportAs }) };
}

/** `count` different kernels in the mixture of a training step: 10 elementwise, 5 reductions, 5 products of 20. */
export function kernelMixture(count: number, salt: number): TinyFunction[] {
  return Array.from({ length: count }, (_, index) => {
    const seed = 0.01 * (index + 1) + 0.37 * salt;
    const name = `k${index}`;
    const kind = index % 4;
    if (kind === 1) return reduction(seed, name);
    if (kind === 3) {
      return microKernel(
        { rows: 4 + (index % 3), vectors: 2, unroll: 2, relaxed: false },
        seed,
        name,
      );
    }
    return elementwise(seed, 6 + (index % 7), name);
  });
}
