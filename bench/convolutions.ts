// W2: single convolutions, the weights packed anew each time. Limit: the fma units (bench/limits.ts).
import { F, tensor } from 'tengen';
import { noise, type Row, rowOf, timeResult } from './harness.ts';

interface Shape {
  readonly name: string;
  readonly images: number;
  readonly inputs: number;
  readonly size: number;
  readonly outputs: number;
  readonly kernel: number;
  readonly stride: number;
  readonly padding: number;
  readonly groups: number;
}

const one = { images: 1, stride: 1, padding: 1, groups: 1 };
const SHAPES: readonly Shape[] = [
  { ...one, name: '3x3_64-64_56_b1', inputs: 64, size: 56, outputs: 64, kernel: 3 },
  {
    ...one,
    name: '3x3s2_128-256_28_b8',
    images: 8,
    inputs: 128,
    size: 28,
    outputs: 256,
    kernel: 3,
    stride: 2,
  },
  { ...one, name: '1x1_256-64_56_b1', inputs: 256, size: 56, outputs: 64, kernel: 1, padding: 0 },
  { ...one, name: 'dw3x3_144_56_b1', inputs: 144, size: 56, outputs: 144, kernel: 3, groups: 144 },
  {
    ...one,
    name: '7x7s2_3-64_224_b1',
    inputs: 3,
    size: 224,
    outputs: 64,
    kernel: 7,
    stride: 2,
    padding: 3,
  },
];

export function benchConvolutions(threads: number): Row[] {
  return SHAPES.map(({ name, images, inputs, size, outputs, kernel, stride, padding, groups }) => {
    const x = tensor(noise(images * inputs * size * size, 1), {
      shape: [images, inputs, size, size],
    });
    const perGroup = inputs / groups;
    const weight = tensor(noise(outputs * perGroup * kernel * kernel, 2), {
      shape: [outputs, perGroup, kernel, kernel],
    });
    const result = Math.floor((size + 2 * padding - kernel) / stride) + 1;
    const flop = 2 * images * outputs * result * result * perGroup * kernel * kernel;
    const options = { stride, padding, groups };
    const times = timeResult(() => F.conv2d(x, weight, null, options));
    return rowOf(`W2 conv ${name}`, threads, times, flop);
  });
}
