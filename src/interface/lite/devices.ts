// The devices that models run on: those of the process, and one for each number of threads asked for.
import { DeviceError } from '../../base/errors.ts';
import type { Device } from '../../runtime/device.ts';
import {
  backendNamed,
  defaultDeviceName,
  getDevice,
  listBackends,
  registerBackend,
  type Backend,
} from '../../runtime/registry.ts';

export interface DeviceChoice {
  /** Name of a backend; default `'wasm'`, which starts at once everywhere. */
  readonly device?: string;
  /** Threads, the caller's included. Default: as many as the process's device has. */
  readonly threads?: number;
}

/** Backends that are loaded when they are first asked for. */
const lazy = new Map<string, () => Promise<Backend>>();
const own = new Map<string, Device>();

/** Makes a backend known by name without loading it. */
export function offerBackend(name: string, load: () => Promise<Backend>): void {
  lazy.set(name, load);
}

/** @throws DeviceError if there is no such backend, or it cannot run here. */
export async function deviceFor({ device = 'wasm', threads }: DeviceChoice): Promise<Device> {
  const load = lazy.get(device);
  if (load !== undefined && !listBackends().some(({ name }) => name === device)) {
    registerBackend(await load());
  }
  const name = device === 'auto' ? defaultDeviceName() : device;
  if (threads === undefined) return getDevice(name);
  const key = `${name}:${threads}`;
  let made = own.get(key);
  if (made === undefined) {
    const backend = backendNamed(name);
    // Says why not, if it cannot run.
    const reason = backend === undefined ? null : backend.unavailable();
    if (backend === undefined || reason !== null) {
      throw new DeviceError(
        backend === undefined
          ? `there is no device '${name}'`
          : `device '${name}' cannot be used here: ${reason}`,
        { op: 'load' },
      );
    }
    made = backend.create({ threads });
    own.set(key, made);
  }
  return made;
}
