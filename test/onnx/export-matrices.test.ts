// Linear algebra and running extremes, written as loops and read back: at the sizes of the export and at
// others, with row exchanges, and where a matrix is singular.
import { cummax, grad, logcumsumexp, manualSeed, randn, tensor, type Tensor } from 'tengen';
import * as linalg from 'tengen/linalg';
import { load, toBytes, UnsupportedError } from 'tengen/onnx';
import { beforeEach, describe, expect, test } from 'vitest';

beforeEach(() => void manualSeed(3));

type Fn = (...xs: Tensor[]) => Tensor | readonly Tensor[];

/** Exports with a batch of any size, and compares at two. */
async function check(fn: Fn, at: readonly (readonly Tensor[])[], tolerance = 2e-4): Promise<void> {
  const [first] = at as readonly [readonly Tensor[]];
  const inputNames = first.map((_, i) => `x${i}`);
  const dynamicAxes = Object.fromEntries(inputNames.map((name) => [name, { 0: 'batch' }]));
  const bytes = await toBytes((...xs: Tensor[]) => fn(...xs), {
    inputs: first,
    inputNames,
    dynamicAxes,
  });
  const model = await load(bytes);
  for (const xs of at) {
    const found = Object.values(model.run(Object.fromEntries(xs.map((x, i) => [`x${i}`, x]))));
    const wanted = [fn(...xs)].flat() as Tensor[];
    expect(found.map(({ shape }) => shape)).toEqual(wanted.map(({ shape }) => shape));
    found.forEach((x, i) => {
      const expected = wanted[i]!.dataSync();
      x.dataSync().forEach((value, k) => {
        const same = Object.is(value, expected[k]);
        const error = Math.abs(Number(value) - Number(expected[k]));
        const allowed = tolerance * (1 + Math.abs(Number(expected[k])));
        if (!same && !(error <= allowed)) expect(value, `output ${i}, ${k}`).toBe(expected[k]);
      });
    });
  }
}

/** Matrices that need row exchanges, the first with a zero where elimination begins. */
function matrices(n: number): Tensor {
  const x = randn([n, 4, 4]);
  return x.mul(
    tensor([0, 1, 1, 1])
      .reshape(4, 1)
      .add(tensor([0, 1, 1, 1]))
      .gt(0),
  );
}
const definite = (n: number): Tensor => {
  const x = randn([n, 4, 4]);
  return x.matmul(x.transpose(-2, -1)).add(tensor([1, 2, 3, 4]).diag());
};

describe('linear algebra', () => {
  test('inverses and systems', async () => {
    await check((a) => linalg.inv(a), [[matrices(2)], [matrices(3)]], 1e-3);
    const pairs = [2, 5].map((n) => [matrices(n), randn([n, 4, 3])]);
    await check((a, b) => linalg.solve(a!, b!), pairs, 1e-3);
    await check((a, b) => linalg.solve(a!.transpose(-2, -1), b!), pairs, 1e-3);
  });

  test('determinants', async () => {
    await check((a) => linalg.det(a), [[matrices(2)], [matrices(7)]]);
    await check((a) => Object.values(linalg.slogdet(a)), [[matrices(2)], [matrices(3)]]);
    const singular = tensor([
      [
        [1, 2],
        [2, 4],
      ],
      [
        [0, 1],
        [1, 0],
      ],
    ]);
    await check((a) => linalg.det(a), [[singular]]);
  });

  test('cholesky and triangles', async () => {
    await check((a) => linalg.cholesky(a), [[definite(2)], [definite(3)]]);
    const systems = [2, 3].map((n) => [definite(n), randn([n, 4, 2])]);
    for (const upper of [false, true]) {
      await check((a, b) => linalg.solveTriangular(a!, b!, { upper }), systems);
    }
  });

  test('their gradients', async () => {
    const slope = (fn: (x: Tensor) => Tensor) => (x: Tensor) => grad((a: Tensor) => fn(a).sum())(x);
    await check(
      slope((a) => linalg.inv(a)),
      [[definite(2)], [definite(3)]],
      1e-3,
    );
    await check(
      slope((a) => linalg.cholesky(a)),
      [[definite(2)], [definite(3)]],
      1e-3,
    );
  });

  test('all that cannot be written is named at once, before anything is', async () => {
    const x = definite(2);
    const attempt = toBytes(
      (a: Tensor) => [linalg.svd(a).S, linalg.qr(a).Q, linalg.eigh(a).eigenvalues],
      {
        inputs: [x],
      },
    );
    await expect(attempt).rejects.toThrow(UnsupportedError);
    await expect(attempt).rejects.toThrow(/singularValues .*qr .*symmetricEigen /);
    await expect(attempt).rejects.toThrow('inverses, systems, determinants and cholesky can be');
    const sized = toBytes((a: Tensor) => linalg.inv(a), {
      inputs: [x],
      inputNames: ['x'],
      dynamicAxes: { x: { 1: 'n', 2: 'n' } },
    });
    await expect(sized).rejects.toThrow('the size of its matrices follows a dynamic axis');
  });
});

describe('running results', () => {
  test('extremes and logarithms of sums', async () => {
    const inputs = [[randn([2, 5])], [randn([4, 5])]];
    await check((x) => Object.values(cummax(x, 1)), inputs, 0);
    await check((x) => logcumsumexp(x, 1), inputs, 1e-5);
    const odd = tensor([
      [-Infinity, -Infinity, 1, Infinity, 2],
      [NaN, 1, 1, 1, 1],
    ]);
    await check((x) => logcumsumexp(x, 1), [[odd]], 1e-6);
  });
});
