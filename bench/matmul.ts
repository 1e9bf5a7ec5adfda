// W1: matrix product n x n x n. Limit: the fma units (bench/limits.ts); 2 n^3 operations.
import { matmul, tensor } from 'tengen';
import { noise, type Row, rowOf, timeResult } from './harness.ts';

export const SIZES = [256, 512, 1024, 2048] as const;

export function benchMatmul(threads: number, sizes: readonly number[] = SIZES): Row[] {
  return sizes.map((n) => {
    const a = tensor(noise(n * n, 1), { shape: [n, n] });
    const b = tensor(noise(n * n, 2), { shape: [n, n] });
    const times = timeResult(() => matmul(a, b));
    return rowOf(`W1 matmul ${n}`, threads, times, 2 * n ** 3);
  });
}
