// Which devices there are. Package entries register backends; the first usable one is the default.
import { DeviceError } from '../base/errors.ts';
import type { Target } from '../ir/kernel.ts';
import type { Device } from './device.ts';

/** What a device may be told when it is made. */
export interface DeviceOptions {
  /** Threads that kernels run on, the caller's included. */
  readonly threads?: number | undefined;
}

export interface Backend {
  readonly name: string;
  /** Higher is preferred when nothing is asked for. */
  readonly priority: number;
  /** Why this backend cannot run here, or null if it can. */
  unavailable(): string | null;
  create(options?: DeviceOptions): Device;
  /** What its devices may be on any machine: programs for them are compiled ahead, into files. */
  portable?(numerics: 'fast' | 'strict'): readonly Target[];
}

const backends = new Map<string, Backend>();
const devices = new Map<string, Device>();
let defaultName: string | null = null;

/** Makes a backend known; registering a name again replaces it. */
export function registerBackend(backend: Backend): void {
  backends.set(backend.name, backend);
}

/** The backend registered under a name. */
export function backendNamed(name: string): Backend | undefined {
  return backends.get(name);
}

/** All targets that programs can be compiled ahead for. */
export function portableTargets(numerics: readonly ('fast' | 'strict')[]): Target[] {
  return [...backends.values()].flatMap((backend) =>
    numerics.flatMap((each) => backend.portable?.(each) ?? []),
  );
}

/** Names of the registered backends, the preferred one first, and why any cannot run. */
export function listBackends(): { name: string; unavailable: string | null }[] {
  return [...backends.values()]
    .sort((a, b) => b.priority - a.priority)
    .map((backend) => ({ name: backend.name, unavailable: backend.unavailable() }));
}

/** The device called `name`, created at first use. Throws DeviceError. */
export function getDevice(name: string): Device {
  const known = devices.get(name);
  if (known !== undefined) return known;
  const backend = backends.get(name);
  if (backend === undefined) {
    throw new DeviceError(`there is no device '${name}'`, {
      hint: `registered: ${[...backends.keys()].join(', ') || 'none'}; importing 'tengen/interp' registers interp`,
    });
  }
  const reason = backend.unavailable();
  if (reason !== null) throw new DeviceError(`device '${name}' cannot be used here: ${reason}`);
  const device = backend.create();
  devices.set(name, device);
  return device;
}

/** The name of the default device: what was set, else the preferred one that can run. */
export function defaultDeviceName(): string {
  return defaultName ?? preferredDeviceName();
}

/** What `'auto'` stands for: the preferred device that can run. */
export function preferredDeviceName(): string {
  const usable = listBackends().find((backend) => backend.unavailable === null);
  if (usable === undefined) {
    throw new DeviceError('no device is registered', {
      hint: "import from 'tengen', which registers the WebAssembly backend",
    });
  }
  return usable.name;
}

/** Sets the default device; `'auto'` goes back to the preferred one. */
export function setDefaultDevice(name: string): void {
  if (name === 'auto') {
    defaultName = null;
    return;
  }
  getDevice(name);
  defaultName = name;
}

/**
 * Makes the device called `name` anew with options. Throws DeviceError if the present one holds
 * values, or if the backend is unknown or cannot run.
 */
export function configureDevice(name: string, options: DeviceOptions): Device {
  const present = devices.get(name);
  if (present !== undefined && present.memory().allocated > 0) {
    throw new DeviceError(`device '${name}' holds values and cannot be configured any more`, {
      hint: 'call configure() before the first computation',
    });
  }
  present?.close();
  devices.delete(name);
  const backend = backends.get(name);
  if (backend === undefined || backend.unavailable() !== null) return getDevice(name);
  const device = backend.create(options);
  devices.set(name, device);
  return device;
}
