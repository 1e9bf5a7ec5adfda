// Process-wide settings that change how pending graphs are computed.

export interface Settings {
  /** `fast`: fused multiply-add where there is one. `strict`: the same bits on every device. */
  numerics: 'fast' | 'strict';
  /** Compute every operation as soon as it is made: for debugging. */
  eager: boolean;
  /** Throw at the first operation that makes a NaN or an infinity: computes each at once. */
  checkNaN: boolean;
  /** Join operations into kernels. Off only to find out whether fusion changes a result. */
  fusion: boolean;
  /** Measure every kernel that runs. */
  profiling: boolean;
  /** Plans kept per device. */
  planCacheSize: number;
}

export const settings: Settings = {
  numerics: 'fast',
  eager: false,
  checkNaN: false,
  fusion: true,
  profiling: false,
  planCacheSize: 256,
};
