// Strict numerics: decompositions and transforms have the same bits on wasm and native.
import { afterAll, expect, test } from 'vitest';
import { setDefaultDevice, setNumerics, tensor } from 'tengen';
import * as F from 'tengen/fft';
import * as linalg from 'tengen/linalg';
import 'tengen/native';

afterAll(() => {
  setNumerics('fast');
  setDefaultDevice('wasm');
});

test('wasm and native agree bit for bit', () => {
  setNumerics('strict');
  const host = Float32Array.from({ length: 24 * 18 }, (_, i) => Math.sin(i * i + 1));
  const results = ['wasm', 'native'].map((device) => {
    setDefaultDevice(device);
    const x = tensor(host, { shape: [24, 18] });
    const square = x.t().matmul(x);
    const { U, Vh } = linalg.svd(x);
    const { eigenvectors } = linalg.eigh(square);
    const all = {
      U,
      Vh,
      eigenvectors,
      Q: linalg.qr(x).Q,
      inverse: linalg.inv(square),
      cholesky: linalg.cholesky(square),
      exponential: linalg.matrixExp(square.div(30)),
      spectrum: F.rfft(x.reshape(-1)),
      prime: F.rfft(x.reshape(-1), 331),
    };
    return Object.entries(all).map(([name, value]) => [name, [...value.dataSync()]] as const);
  });
  expect(results[1]).toEqual(results[0]);
});
