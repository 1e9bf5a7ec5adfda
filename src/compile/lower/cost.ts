// What a target can do in a nanosecond, for estimates that compare schedules. Relative figures count.
import type { Target } from '../../ir/kernel.ts';

/** Multiply-adds of float32 per nanosecond of one core, from registers. */
export function multiplyAddsPerNanosecond(target: Target): number {
  // One fused instruction of 32 bytes or less a cycle and port, two ports, about 3.7 GHz; vectors of
  // 64 bytes pass in two halves on many cores.
  const lanes = Math.min(target.vectorBytes, 32) / 4;
  return lanes * 7.4 * (target.fma ? 1 : 0.7);
}

/** Bytes that a core moves per nanosecond, from and to memory. */
const BYTES_PER_NANOSECOND = 12;
/** Nanoseconds to start a kernel and to meet at its end. */
const START = 1500;

/** Estimated nanoseconds of kernels on a core that does `flopsPerNanosecond`. */
export function nanosecondsOf(
  kernels: readonly {
    readonly flops: number;
    readonly bytesRead: number;
    readonly bytesWritten: number;
  }[],
  flopsPerNanosecond: number,
): number {
  let flops = 0;
  let moved = 0;
  for (const kernel of kernels) {
    flops += kernel.flops;
    moved += kernel.bytesRead + kernel.bytesWritten;
  }
  return flops / flopsPerNanosecond + moved / BYTES_PER_NANOSECOND + START * kernels.length;
}

/** Elements of float32 that are copied, or read and written, per nanosecond: from caches. */
export function elementsPerNanosecond(target: Target): number {
  return target.vectorBytes >= 32 ? 4 : 3;
}
