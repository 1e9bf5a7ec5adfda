// The WebAssembly backend, as a package entry registers it.
import type { Backend } from '../../runtime/registry.ts';
import { WasmDevice, wasmTarget, wasmUnavailable } from './device.ts';

export { WasmDevice, wasmUnavailable } from './device.ts';
export type { WasmDeviceOptions, WasmStatistics } from './device.ts';

export const wasmBackend: Backend = {
  name: 'wasm',
  priority: 10,
  unavailable: wasmUnavailable,
  create: ({ threads } = {}) => new WasmDevice(threads === undefined ? {} : { threads }),
  portable: (numerics) =>
    numerics === 'fast'
      ? [wasmTarget(numerics, true), wasmTarget(numerics, false)]
      : [wasmTarget(numerics, false)],
};
