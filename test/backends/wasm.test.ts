// Plans on the WebAssembly device: dispatch order, hazards, threads, scalars, memory.
import { afterAll, describe, expect, it } from 'vitest';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import type { DeviceBuffer } from '../../src/runtime/device.ts';
import type { Plan } from '../../src/runtime/plan.ts';

/** out[i] = x[i] * scale + i over rows of `columns`, four lanes at a time. */
function scaleKernel(rows: number, columns: number): Kernel {
  const b = new Builder();
  const x = b.buffer('x', 'float32', 'read', { length: rows * columns });
  const scale = b.buffer('scale', 'float32', 'read', { length: 1 });
  const out = b.buffer('out', 'float32', 'write', { length: rows * columns });
  const row = b.variable('row', 'i32', { min: 0, max: rows - 1 });
  const column = b.variable('column', 'i32', { min: 0, max: columns - 1 });
  const at = b.add(b.scale(row, columns), column);
  const factor = b.splat(b.load(scale, b.constant(0)), 4);
  const position = b.lanes([0, 1, 2, 3].map((lane) => b.convert(b.offset(at, lane), 'f32')));
  return {
    name: 'scale',
    buffers: [x, scale, out],
    scratch: [],
    gridIndex: row,
    gridSize: rows,
    body: [
      {
        kind: 'for',
        index: column,
        start: b.constant(0),
        end: b.constant(columns),
        step: 4,
        body: [
          {
            kind: 'store',
            buffer: out,
            index: at,
            value: b.add(b.mul(b.load(x, at, 4), factor), position),
          },
        ],
      },
    ],
  };
}

function floats(device: WasmDevice, values: ArrayLike<number>): DeviceBuffer {
  const data = Float32Array.from(values);
  const buffer = device.allocate(data.byteLength);
  device.write(buffer, 0, new Uint8Array(data.buffer));
  return buffer;
}

async function readFloats(device: WasmDevice, buffer: DeviceBuffer): Promise<Float32Array> {
  return new Float32Array((await device.read(buffer, 0, buffer.bytes)).buffer);
}

const ROWS = 64;
const COLUMNS = 1024;
const SIZE = ROWS * COLUMNS;

/** x -> scale twice -> reversed rows would hazard; here a chain through the arena. */
function chainPlan(): Plan {
  const bytes = SIZE * 4;
  return {
    kernels: [scaleKernel(ROWS, COLUMNS)],
    dispatches: [
      {
        kernel: 0,
        arguments: [
          { space: 'binding', index: 0 },
          { space: 'scalar', slot: 0 },
          { space: 'arena', offset: 0 },
        ],
      },
      {
        kernel: 0,
        arguments: [
          { space: 'binding', index: 0 },
          { space: 'scalar', slot: 1 },
          { space: 'arena', offset: bytes },
        ],
      },
      {
        kernel: 0,
        arguments: [
          { space: 'arena', offset: 0 },
          { space: 'scalar', slot: 1 },
          { space: 'binding', index: 1 },
        ],
      },
    ],
    arenaBytes: 2 * bytes,
    bindings: [
      { bytes, access: 'read' },
      { bytes, access: 'write' },
    ],
    scalars: ['float32', 'float32'],
  };
}

function expectedChain(x: ArrayLike<number>, first: number, second: number): Float32Array {
  const a = Math.fround(first);
  const b = Math.fround(second);
  return Float32Array.from(x, (value, i) => {
    const once = Math.fround(Math.fround(value * a) + i);
    return Math.fround(Math.fround(once * b) + i);
  });
}

describe('plans on wasm', () => {
  const devices = [1, 2].map((threads) => new WasmDevice({ threads }));
  afterAll(() => devices.forEach((device) => device.close()));

  for (const device of devices) {
    it(`runs dependent dispatches on ${device.threads} thread(s)`, async () => {
      const x = Float32Array.from({ length: SIZE }, (_, i) => Math.sin(i));
      const executable = device.load(chainPlan());
      const input = floats(device, x);
      const output = device.allocate(SIZE * 4);
      for (let run = 0; run < 20; run++) {
        executable.run([input, output], Float64Array.of(1 + run, 0.3));
        expect(await readFloats(device, output)).toEqual(expectedChain(x, 1 + run, 0.3));
      }
      expect(executable.program.barriers).toBe(1);
      expect(device.statistics.dispatches).toBe(60);
      executable.dispose();
      device.free(input);
      device.free(output);
      expect(device.memory()).toEqual({ allocated: 0, reserved: 0 });
    });
  }
});
