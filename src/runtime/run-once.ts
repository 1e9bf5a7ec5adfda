// A plan that is loaded, run once and forgotten.
import type { Device } from './device.ts';
import type { RunOnce } from './export.ts';

/** `RunOnce` on a device, which must take the kernels of the plans that it is given. */
export function runOnceOn(device: Device): RunOnce {
  return async (plan, contents, scalars, wanted) => {
    const executable = device.load(plan);
    const buffers = plan.bindings.map(({ bytes }) => device.allocate(Math.max(1, bytes)));
    try {
      buffers.forEach((buffer, i) => {
        const bytes = contents[i];
        if (bytes !== null && bytes !== undefined) device.write(buffer, 0, bytes);
      });
      executable.run(buffers, scalars);
      const results: Uint8Array[] = [];
      for (const index of wanted) {
        const { bytes } = plan.bindings[index] as { bytes: number };
        const buffer = buffers[index];
        if (buffer !== undefined) results.push(await device.read(buffer, 0, bytes));
      }
      return results;
    } finally {
      for (const buffer of buffers) device.free(buffer);
      executable.dispose();
    }
  };
}
