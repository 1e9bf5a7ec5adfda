// The native backend, as a package entry registers it.
import type { Backend } from '../../runtime/registry.ts';
import { NativeDevice } from './device.ts';
import { nativeUnavailable } from './host.ts';

export { NativeDevice, NativeExecutable } from './device.ts';
export type { NativeDeviceOptions, NativeStatistics } from './device.ts';
export { nativeUnavailable } from './host.ts';
export { type CacheReport, cacheReport, clearCache } from './cache-report.ts';

export const nativeBackend: Backend = {
  name: 'native',
  priority: 20,
  unavailable: nativeUnavailable,
  create: ({ threads } = {}) => new NativeDevice(threads === undefined ? {} : { threads }),
};
