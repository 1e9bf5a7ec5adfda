// Maxima of aligned regions, and pooling whose bins move, against loops in plain TypeScript.
import { describe, expect, test } from 'vitest';
import { grad, tensor, type Tensor, zeros } from 'tengen';
import * as vision from 'tengen/vision';
import { checkDifferences, expectClose, f64 } from '../linalg/support.ts';

const HEIGHT = 5;
const WIDTH = 6;

/** [2, channels, 5, 6] of numbers without a pattern. */
function features(channels: number): { data: number[]; x: Tensor } {
  const size = 2 * channels * HEIGHT * WIDTH;
  const data = Array.from({ length: size }, (_, i) => Math.sin(12.9898 * i) * 3);
  return { data, x: f64(data).reshape([2, channels, HEIGHT, WIDTH]) };
}

/** Between pixels, the point is in the image. */
function bilinear(at: (y: number, x: number) => number, y: number, x: number): number {
  const [y0, x0] = [Math.floor(y), Math.floor(x)];
  const [y1, x1] = [Math.min(y0 + 1, HEIGHT - 1), Math.min(x0 + 1, WIDTH - 1)];
  const [fy, fx] = [y - y0, x - x0];
  const top = at(y0, x0) * (1 - fx) + at(y0, x1) * fx;
  return top * (1 - fy) + (at(y1, x0) * (1 - fx) + at(y1, x1) * fx) * fy;
}

const clamp = (value: number, high: number): number => Math.min(Math.max(value, 0), high);

const REGIONS = [
  [0, 0.5, 0.25, 4.5, 3.75],
  [1, -1.5, 1, 2.25, 8],
  [1, 3, 3, 3.125, 2.5],
  [0, 7, 1, 9, 2],
];

describe('roiAlign of maxima', () => {
  function expected(
    data: number[],
    bins: readonly [number, number],
    samples: number,
    aligned: boolean,
  ) {
    return REGIONS.map(([image, x1, y1, x2, y2]) =>
      [0, 1].map((channel) => {
        const half = aligned ? 0.5 : 0;
        const axis = (from: number, to: number, count: number, bin: number): number[] => {
          const length = aligned ? to - from : Math.max(to - from, 1);
          const width = length / count;
          const n = samples > 0 ? samples : Math.ceil(width);
          return Array.from(
            { length: Math.max(n, 0) },
            (_, i) => from - half + bin * width + ((i + 0.5) * width) / n,
          );
        };
        return Array.from({ length: bins[0] }, (_, row) =>
          Array.from({ length: bins[1] }, (_column, column) => {
            const at = (y: number, x: number): number =>
              data[((image! * 2 + channel) * HEIGHT + y) * WIDTH + x]!;
            const values = axis(y1!, y2!, bins[0], row).flatMap((y) =>
              axis(x1!, x2!, bins[1], column).map((x) => {
                if (y < -1 || y > HEIGHT || x < -1 || x > WIDTH) return 0;
                return bilinear(at, clamp(y, HEIGHT - 1), clamp(x, WIDTH - 1));
              }),
            );
            return values.length === 0 ? 0 : Math.max(...values);
          }),
        );
      }),
    );
  }

  test.each([
    [2, false],
    [2, true],
    [-1, false],
    [-1, true],
    [3, true],
  ])('%d samples, aligned %s', (samplingRatio, aligned) => {
    const { data, x } = features(2);
    const options = { outputSize: [2, 3], samplingRatio, aligned, mode: 'max' } as const;
    expectClose(
      vision.roiAlign(x, f64(REGIONS), options),
      expected(data, [2, 3], samplingRatio, aligned),
      1e-9,
    );
    checkDifferences((t) => vision.roiAlign(t, f64(REGIONS), options).square().sum(), x, 1e-5);
  });

  test('no regions, float32, an unknown mode', () => {
    const { x } = features(2);
    const options = { outputSize: 2, mode: 'max' } as const;
    expect(vision.roiAlign(x, zeros(0, 5), options).shape).toEqual([0, 2, 2, 2]);
    const whole = vision.roiAlign(x.float(), tensor(REGIONS), { ...options, samplingRatio: 2 });
    const found = vision.roiAlign(x, f64(REGIONS), { ...options, samplingRatio: 2 });
    expectClose(whole, found.arraySync(), 1e-5);
    // @ts-expect-error no such mode
    expect(() => vision.roiAlign(x, f64(REGIONS), { outputSize: 1, mode: 'min' })).toThrow('mode');
  });
});

describe('deformable pooling', () => {
  interface Case {
    readonly bins: readonly [number, number];
    readonly parts: readonly [number, number];
    readonly samples: number;
    readonly groups: number;
    readonly classes: number;
    readonly scale: number;
  }

  /** As the paper's kernel has it, sample by sample. */
  function expected(data: number[], offset: number[], inputs: number, c: Case): number[] {
    const [rows, columns] = c.bins;
    const outputs = inputs / c.groups ** 2;
    const result: number[] = [];
    REGIONS.forEach(([image, ...corners], k) => {
      const [x1, y1, x2, y2] = corners.map(
        (v, i) => (Math.floor(v + 0.5) + (i < 2 ? 0 : 1)) * c.scale - 0.5,
      );
      const [width, height] = [Math.max(x2! - x1!, 0.1), Math.max(y2! - y1!, 0.1)];
      for (let channel = 0; channel < outputs; channel++) {
        const kind = Math.floor(channel / (outputs / c.classes));
        for (let ph = 0; ph < rows; ph++) {
          for (let pw = 0; pw < columns; pw++) {
            const part = [
              Math.floor((ph * c.parts[0]) / rows),
              Math.floor((pw * c.parts[1]) / columns),
            ];
            const moved = (axis: number): number =>
              0.1 *
              offset[
                (((k * c.classes + kind) * 2 + axis) * c.parts[0] + part[0]!) * c.parts[1] +
                  part[1]!
              ]!;
            const [gh, gw] = [
              Math.floor((ph * c.groups) / rows),
              Math.floor((pw * c.groups) / columns),
            ];
            const source = (channel * c.groups + gh) * c.groups + gw;
            const at = (y: number, x: number): number =>
              data[((image! * inputs + source) * HEIGHT + y) * WIDTH + x]!;
            let [sum, count] = [0, 0];
            for (let i = 0; i < c.samples; i++) {
              for (let j = 0; j < c.samples; j++) {
                const y = y1! + moved(1) * height + ((ph + i / c.samples) * height) / rows;
                const x = x1! + moved(0) * width + ((pw + j / c.samples) * width) / columns;
                if (y < -0.5 || y > HEIGHT - 0.5 || x < -0.5 || x > WIDTH - 0.5) continue;
                sum += bilinear(at, clamp(y, HEIGHT - 1), clamp(x, WIDTH - 1));
                count += 1;
              }
            }
            result.push(count === 0 ? 0 : sum / count);
          }
        }
      }
    });
    return result;
  }

  test.each<[string, number, Case]>([
    ['plain', 2, { bins: [2, 3], parts: [2, 3], samples: 2, groups: 1, classes: 1, scale: 1 }],
    [
      'by position',
      8,
      { bins: [2, 2], parts: [3, 2], samples: 3, groups: 2, classes: 1, scale: 0.7 },
    ],
    ['by class', 4, { bins: [3, 2], parts: [1, 1], samples: 2, groups: 1, classes: 2, scale: 1 }],
  ])('%s', (_name, inputs, c) => {
    const { data, x } = features(inputs);
    const size = REGIONS.length * 2 * c.classes * c.parts[0] * c.parts[1];
    const numbers = Array.from({ length: size }, (_, i) => 2 * Math.cos(7.3 * i + 0.4));
    const offset = f64(numbers).reshape([REGIONS.length, 2 * c.classes, ...c.parts]);
    const options = {
      outputSize: c.bins,
      partSize: c.parts,
      samplesPerPart: c.samples,
      groupSize: c.groups,
      spatialScale: c.scale,
    };
    const pool = (t: Tensor, o: Tensor): Tensor =>
      vision.deformPsRoiPool(t, f64(REGIONS), o, options);
    expectClose(pool(x, offset).reshape(-1), expected(data, numbers, inputs, c), 1e-9);
    checkDifferences((o) => pool(x, o).square().sum(), offset, 1e-4);
    checkDifferences((t) => pool(t, offset).square().sum(), x.mul(1), 1e-5);
  });

  test('without offsets, without regions, as a module', () => {
    const { data, x } = features(2);
    const c: Case = { bins: [2, 2], parts: [1, 1], samples: 4, groups: 1, classes: 1, scale: 1 };
    const layer = new vision.DeformPSRoIPool({ outputSize: 2 });
    const still = expected(data, new Array<number>(8).fill(0), 2, c);
    expectClose(layer.forward(x, f64(REGIONS)).reshape(-1), still, 1e-9);
    expect(layer.forward(x, zeros(0, 5)).shape).toEqual([0, 2, 2, 2]);
    const slope = grad((t: Tensor) => layer.forward(t, f64(REGIONS)).sum())(x);
    expect(slope.shape).toEqual(x.shape);
  });

  test('what is refused', () => {
    const { x } = features(2);
    const pool = (offset: Tensor | null, options: object) => () =>
      vision.deformPsRoiPool(x, f64(REGIONS), offset, { outputSize: 2, ...options });
    expect(pool(zeros(4, 2, 3, 2), {})).toThrow('offsets are [4,2,3,2]');
    expect(pool(zeros(4, 3, 2, 2), {})).toThrow('not [4,2,2,2] for one class');
    expect(pool(null, { groupSize: 2 })).toThrow('no multiple of 2 x 2 groups');
    expect(pool(null, { samplesPerPart: 0 })).toThrow('samplesPerPart');
    expect(pool(null, { noTrans: true })).toThrow("no option 'noTrans'");
  });
});
