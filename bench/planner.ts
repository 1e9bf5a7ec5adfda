// A device that computes nothing: what its plans need is known without running them. Values read as
// zeros, and memory is only counted.
import type { Device, DeviceBuffer } from '../src/runtime/device.ts';
import { getDevice, registerBackend } from '../src/runtime/registry.ts';

export const PLANNER = 'planner';

/** Registers the device, which compiles for the target of `device`. */
export function registerPlanner(device: string): void {
  registerBackend({
    name: PLANNER,
    priority: -1,
    unavailable: () => null,
    create: () => plannerOf(getDevice(device)),
  });
}

function plannerOf(model: Device): Device {
  let allocated = 0;
  return {
    name: PLANNER,
    synchronous: true,
    threads: model.threads,
    collected: true,
    target: (numerics, pairs) => model.target(numerics, pairs),
    allocate: (bytes) => {
      allocated += bytes;
      return { bytes };
    },
    free: ({ bytes }: DeviceBuffer) => void (allocated -= bytes),
    write: () => undefined,
    read: (_buffer, _byteOffset, bytes) => Promise.resolve(new Uint8Array(bytes)),
    view: ({ bytes }) => new Uint8Array(bytes),
    load: () => ({ run: () => undefined, dispose: () => undefined }),
    memory: () => ({ allocated, reserved: 0 }),
    close: () => undefined,
  };
}
