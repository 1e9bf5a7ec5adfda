// The random generator against its published known answers, and the graph's against the host's.
import { describe, expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { philoxBits } from '../../src/base/philox.ts';
import { constant, randomBits } from '../../src/graph/ops/index.ts';
import { runGraph } from '../support/run-graph.ts';

describe('philox4x32-10', () => {
  test('known answer of the authors for counter 0 and key 0', () => {
    expect(Array.from(philoxBits(0, 0, 0, 4))).toEqual([
      0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8,
    ]);
  });

  test('blocks follow one another across 2^32', () => {
    const across = philoxBits(5, 6, 2 ** 32 - 1, 8);
    expect(Array.from(across.slice(0, 4))).toEqual(Array.from(philoxBits(5, 6, 2 ** 32 - 1, 4)));
    expect(Array.from(across.slice(4))).toEqual(Array.from(philoxBits(5, 6, 2 ** 32, 4)));
    expect(Array.from(across.slice(4))).not.toEqual(Array.from(philoxBits(5, 6, 0, 4)));
  });

  test('the graph draws the bits of the host, also where the offset carries', () => {
    const device = new InterpDevice({ vectorBytes: 16 });
    const words = [5, 6, 4294967294, 1].map((value) => constant(value, 'uint32'));
    const [seedLow, seedHigh, offsetLow, offsetHigh] = words as [
      (typeof words)[0],
      (typeof words)[0],
      (typeof words)[0],
      (typeof words)[0],
    ];
    const node = randomBits([5, 7], { seedLow, seedHigh, offsetLow, offsetHigh });
    const bits = runGraph(device, [node], new Map()).get(node)!.data;
    expect([...bits]).toEqual(Array.from(philoxBits(5, 6, 2 ** 32 + 4294967294, 35)));
    device.close();
  });
});
