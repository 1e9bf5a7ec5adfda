// Eigenvalues and eigenvectors of real square matrices of any kind: complex numbers in two parts.
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, NO_ATTRS } from '../op.ts';
import { add, div, mul, neg, sub } from './arithmetic.ts';
import { expand, reshape, sum } from './broadcast.ts';
import { cast } from './cast.ts';
import { equal, greaterEqual } from './compare.ts';
import { detach } from './copy.ts';
import { constant, iota } from './creation.ts';
import { lowerGeneralEigen } from './general-eigen-lowering.ts';
import { complexEigen } from './general-eigen-reference.ts';
import { NOTABLE_SQUARE } from './general-eigen-vectors.ts';
import { luFactor, luSolve } from './lu.ts';
import { matmul } from './matmul.ts';
import {
  batchOf,
  diagonalPart,
  flipped,
  matricesOf,
  reciprocalOrZero,
  squareSize,
  unpack,
} from './matrix-parts.ts';
import { argmax, max } from './reduce.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { concat, narrowAxis } from './slicing.ts';

/** A complex matrix, or several. */
interface Complex {
  readonly re: Node;
  readonly im: Node;
}

/** A vector [.., n] as rows [.., 1, n]. */
function row(vector: Node): Node {
  return reshape(vector, [...vector.shape.slice(0, -1), 1, vector.shape.at(-1)!]);
}

/** Where each column has the component that is made real: 1 there, else 0. */
function realPlaces({ re, im }: Complex): Node {
  const square = detach(add(mul(re, re), mul(im, im)));
  const enough = mul(max(square, -2, true), constant(NOTABLE_SQUARE, re.dtype));
  const first = argmax(cast(greaterEqual(square, enough), 'int32'), -2, true);
  const size = re.shape.at(-1)!;
  return cast(equal(iota([size, 1], 0, 'int32'), first), re.dtype);
}

/** The gradient of vectors without what their length and phase, which are fixed, would add. */
function withoutGauge(v: Complex, g: Complex): Complex {
  const along = sum(add(mul(v.re, g.re), mul(v.im, g.im)), -2, true);
  const across = sum(sub(mul(g.re, v.im), mul(g.im, v.re)), -2, true);
  const places = realPlaces(v);
  const component = sum(mul(places, v.re), -2, true);
  return {
    re: sub(g.re, mul(v.re, along)),
    im: add(sub(g.im, mul(v.im, along)), mul(places, div(across, component))),
  };
}

/**
 * V⁻ᴴ N Vᴴ with N the gradient of the values on the diagonal and, off it, that of the vectors over
 * the differences of the values (Boeddeker et al. 2017, arXiv:1701.00392, 4.23).
 */
function eigenGradient(
  values: Complex,
  v: Complex,
  gradValues: Complex,
  gradVectors: Complex,
): Node {
  const size = v.re.shape.at(-1)!;
  const g = withoutGauge(v, gradVectors);
  const [vr, vi] = [flipped(v.re), flipped(v.im)];
  const m = {
    re: add(matmul(vr, g.re), matmul(vi, g.im)),
    im: sub(matmul(vr, g.im), matmul(vi, g.re)),
  };
  const gap = (x: Node): Node => sub(row(x), reshape(x, [...x.shape, 1]));
  const d = { re: gap(values.re), im: gap(values.im) };
  const inverse = reciprocalOrZero(add(mul(d.re, d.re), mul(d.im, d.im)));
  const square = [...v.re.shape];
  const spread = (x: Node): Node => diagonalPart(expand(row(x), square));
  const n = {
    re: add(mul(sub(mul(m.re, d.re), mul(m.im, d.im)), inverse), spread(gradValues.re)),
    im: add(mul(add(mul(m.re, d.im), mul(m.im, d.re)), inverse), spread(gradValues.im)),
  };
  const y = {
    re: add(matmul(n.re, vr), matmul(n.im, vi)),
    im: sub(matmul(n.im, vr), matmul(n.re, vi)),
  };
  // Vᴴ X = Y, as a real system of twice the size.
  const rank = square.length;
  const whole = concat([concat([vr, vi], rank - 1), concat([neg(vi), vr], rank - 1)], rank - 2);
  const right = concat([y.re, y.im], rank - 2);
  return narrowAxis(luSolve(whole, right, luFactor(whole)), rank - 2, 0, size);
}

const generalEigenOp = defineOp({
  name: 'generalEigen',
  summary: 'eigenvalues and eigenvectors of any real matrix: real parts, imaginary parts, of each',
  attrs: {},
  infer: ([x]) => {
    const size = squareSize('eig', x!);
    return { shape: [...batchOf(x!.shape), 2 * size + 2 * size * size], dtype: x!.dtype };
  },
  gradient: ({ node, grad, inputs }) => {
    if (sizeOf(inputs[0]!.shape) === 0) return [inputs[0]!];
    const [values, v] = split(node);
    const [gradValues, gradVectors] = split(grad);
    return [eigenGradient(values, v, gradValues, gradVectors)];
  },
  lower: { kind: 'custom', lower: (context, _attrs, node) => lowerGeneralEigen(context, node) },
  reference: ([x]) =>
    Float64Array.from(
      matricesOf(x!).flatMap((matrix) => {
        const { values, vectors } = complexEigen(matrix);
        return [
          ...values.map(([re]) => re),
          ...values.map(([, im]) => im),
          ...matrix.flatMap((_, i) => vectors.map((vector) => vector[i]![0])),
          ...matrix.flatMap((_, i) => vectors.map((vector) => vector[i]![1])),
        ];
      }),
    ),
  samples: () => [
    ...[
      [1, 1],
      [2, 2],
      [3, 3],
      [2, 5, 5],
      [0, 0],
      [0, 2, 2],
    ].map((shape) => ({
      inputs: [randomTensor(shape, { seed: 5 })],
      attrs: {},
      // Eigenvectors are as exact as their eigenvalues are apart.
      tolerance: 1e-4,
    })),
    {
      inputs: [randomTensor([6, 6], { dtype: 'float64', seed: 3 })],
      attrs: {},
      tolerance: 1e-10,
    },
    { inputs: [tensorOf([2, 2], [0, -2, 0.5, 0])], attrs: {} },
    { inputs: [tensorOf([3, 3], [0, 0, 1, 1, 0, 0, 0, 1, 0])], attrs: {} },
    {
      inputs: [tensorOf([3, 3], [2e25, 1e25, 0, 0, -1e25, 5e24, 0, 3e25, 4e25])],
      attrs: {},
      skipGradient: 'out of scale for differences',
      tolerance: 1e-4,
    },
    {
      inputs: [tensorOf([2, 2], [1, NaN, 0, 2])],
      attrs: {},
      skipGradient: 'not finite',
    },
  ],
});

function split(packed: Node): readonly [values: Complex, vectors: Complex] {
  const numbers = packed.shape.at(-1)!;
  // 2 n + 2 n² numbers.
  const size = Math.round((Math.sqrt(1 + 2 * numbers) - 1) / 2);
  const shapes = [[size], [size], [size, size], [size, size]];
  const [a, b, c, d] = unpack(packed, shapes) as [Node, Node, Node, Node];
  return [
    { re: a, im: b },
    { re: c, im: d },
  ];
}

/**
 * Eigenvalues [.., n] by ascending real parts, of a conjugate pair the one above the axis first, and
 * eigenvectors [.., n, n] as columns of length 1, of real matrices; real and imaginary parts of each. The
 * first component of a vector with at least 0.6 of its largest magnitude is real and positive. NaN if an
 * element is not finite. Between equal eigenvalues nothing flows back.
 */
export function generalEigen(x: Node): readonly [values: Complex, vectors: Complex] {
  return split(makeNode(generalEigenOp, [x], NO_ATTRS));
}
