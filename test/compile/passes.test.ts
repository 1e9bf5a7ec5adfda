// Each rewrite rule: what it applies to, and what it must leave alone.
import { describe, expect, test } from 'vitest';
import type { Node } from '../../src/graph/node.ts';
import * as g from '../../src/graph/ops/index.ts';
import { collectFlow } from '../../src/compile/flow.ts';
import { separateRoots } from '../../src/compile/passes/copies.ts';
import { foldConstants } from '../../src/compile/passes/fold-constants.ts';
import { COMMON, rewrite } from '../../src/compile/passes/rewrite.ts';
import { SIMPLIFICATIONS } from '../../src/compile/passes/simplify.ts';
import { leafFor } from '../support/graphs.ts';
import { programOf, targetOf } from './harness.ts';

const f32 = (...shape: number[]): Node => leafFor({ shape, dtype: 'float32' });
const i32 = (...shape: number[]): Node => leafFor({ shape, dtype: 'int32' });
const bool = (...shape: number[]): Node => leafFor({ shape, dtype: 'bool' });
const c = (value: number): Node => g.constant(value, 'float32');

/** The graph as text, leaves by their place among `leaves`. */
function text(node: Node, leaves: readonly Node[]): string {
  const leaf = leaves.indexOf(node);
  if (leaf >= 0) return 'xyzw'[leaf] ?? `x${leaf}`;
  if (node.op.name === 'full') return `${String(node.attrs['value'])}[${node.shape.join()}]`;
  const inputs = node.inputs.map((input) => text(input, leaves)).join(', ');
  const shaped = ['reshape', 'expand'].includes(node.op.name) ? `[${node.shape.join()}]` : '';
  return `${node.op.name}${shaped}(${inputs})`;
}

function rewritten(
  roots: readonly Node[],
  leaves: readonly Node[],
  numerics: 'fast' | 'strict' = 'strict',
): { readonly text: string[]; readonly applied: string[] } {
  const rules = [foldConstants(targetOf()), ...SIMPLIFICATIONS];
  const { flow, applied } = rewrite(programOf(roots), rules, { numerics, common: true });
  return { text: flow.roots.map(({ node }) => text(node, leaves)), applied: [...applied.keys()] };
}

function expectRewrite(
  make: (x: Node) => Node,
  to: string,
  x: Node = f32(2, 3),
  numerics: 'fast' | 'strict' = 'strict',
): void {
  expect(rewritten([make(x)], [x], numerics).text[0]).toBe(to);
}

describe('neutral-operand', () => {
  test('x * 1, 1 * x, x / 1, x - 0', () => {
    expectRewrite((x) => g.neg(g.mul(x, c(1))), 'neg(x)');
    expectRewrite((x) => g.neg(g.mul(c(1), x)), 'neg(x)');
    expectRewrite((x) => g.neg(g.div(x, c(1))), 'neg(x)');
    expectRewrite((x) => g.neg(g.sub(x, c(0))), 'neg(x)');
  });
  test('x + 0 of integers, but not of floats: -0 + 0 is 0', () => {
    expectRewrite((x) => g.neg(g.add(x, g.constant(0, 'int32'))), 'neg(x)', i32(3));
    expectRewrite((x) => g.neg(g.add(x, c(0))), 'neg(add(x, 0[]))');
    expectRewrite((x) => g.neg(g.add(x, c(-0))), 'neg(x)');
  });
  test('x + 0 of floats in fast numerics', () => {
    expectRewrite((x) => g.neg(g.add(c(0), x)), 'neg(x)', f32(2), 'fast');
  });
  test('0 - x and x - -0 stay', () => {
    expectRewrite((x) => g.sub(c(0), x), 'sub(0[], x)');
    expectRewrite((x) => g.sub(x, c(-0)), 'sub(x, 0[])');
  });
  test('a broadcast operand is expanded', () => {
    expectRewrite((x) => g.mul(x, g.full([2, 3], 1, 'float32')), 'expand[2,3](x)', f32(3));
  });
});

describe('constant-folding', () => {
  test('elementwise ops and views of constants, in the arithmetic of the dtype', () => {
    expectRewrite(
      (x) => g.add(x, g.mul(c(0.1), c(3))),
      `add(x, ${Math.fround(Math.fround(0.1) * 3)}[])`,
    );
    expectRewrite((x) => g.sub(x, g.expand(g.reshape(c(2), [1, 1]), [2, 3])), 'sub(x, 2[2,3])');
    expectRewrite(
      (x) => g.add(x, g.mul(g.constant(2 ** 30, 'int32'), g.constant(6, 'int32'))),
      `add(x, ${Math.imul(2 ** 30, 6)}[])`,
      i32(2),
    );
  });
  test('what the kernels compute by polynomials is not folded', () => {
    expectRewrite((x) => g.add(x, g.exp(c(1))), 'add(x, exp(1[]))');
  });
  test('index ramps are no constants', () => {
    expectRewrite((x) => g.add(x, g.iota([3], 0, 'int32')), 'add(x, iota())', i32(3));
  });
});

describe('signs', () => {
  test('negation moves into sums', () => {
    const [x, y] = [f32(2), f32(2)];
    const roots = [g.add(x, g.neg(y)), g.add(g.neg(x), y), g.sub(x, g.neg(y)), g.mul(x, c(-1))];
    expect(rewritten(roots, [x, y]).text).toEqual([
      'sub(x, y)',
      'sub(y, x)',
      'add(x, y)',
      'neg(x)',
    ]);
  });
  test('double negation', () => {
    expectRewrite((x) => g.abs(g.neg(g.neg(x))), 'abs(x)');
    expectRewrite((x) => g.logicalNot(g.logicalNot(g.logicalNot(x))), 'logicalNot(x)', bool(3));
  });
});

describe('divide-by-constant', () => {
  test('powers of two always, others in fast numerics', () => {
    expectRewrite((x) => g.div(x, c(8)), 'mul(x, 0.125[])');
    expectRewrite((x) => g.div(x, c(3)), 'div(x, 3[])');
    expectRewrite((x) => g.div(x, c(3)), `mul(x, ${1 / 3}[])`, f32(2), 'fast');
    expectRewrite((x) => g.div(x, c(0)), 'div(x, 0[])', f32(2), 'fast');
    expectRewrite((x) => g.div(x, c(Infinity)), 'div(x, Infinity[])', f32(2), 'fast');
  });
});

describe('views', () => {
  test('casts, reshapes, expands and permutations compose', () => {
    const x = f32(2, 3, 4);
    const twice = g.reshape(g.reshape(x, [6, 4]), [24]);
    expect(rewritten([twice], [x]).text[0]).toBe('reshape[24](x)');
    const back = g.abs(g.reshape(g.reshape(x, [24]), [2, 3, 4]));
    expect(rewritten([back], [x]).text[0]).toBe('abs(x)');
    expectRewrite((y) => g.expand(g.expand(y, [1, 3]), [2, 3]), 'expand[2,3](x)', f32(3));
  });
  test('transposing twice is nothing, moving axes of size 1 is a reshape', () => {
    const x = f32(2, 1, 4);
    const moved = g.neg(g.permute(x, [1, 0, 2]));
    expect(rewritten([moved], [x]).text[0]).toBe('neg(reshape[1,2,4](x))');
    const y = f32(2, 3);
    const neg = g.neg(y);
    const both = g.abs(g.transpose(g.reshape(g.transpose(neg), [3, 2])));
    expect(rewritten([both], [y]).text[0]).toBe('abs(neg(x))');
  });
  test('a reduction of one element is that element; a sum of -0 is 0, so only in fast numerics', () => {
    const x = f32(2, 1, 3);
    const sum = g.abs(g.sum(x, [1]));
    expect(rewritten([sum], [x], 'fast').text[0]).toBe('abs(reshape[2,3](x))');
    expect(rewritten([sum], [x], 'strict').text[0]).toBe('abs(sum(x))');
    expect(rewritten([g.abs(g.max(x, [1], true))], [x]).text[0]).toBe('abs(x)');
    expect(rewritten([g.abs(g.sum(x, [0]))], [x], 'fast').text[0]).toBe('abs(sum(x))');
  });
});

describe('reduce-of-merged', () => {
  const merged = (x: Node, shape: number[]): Node =>
    g.reshape(g.permute(x, [1, 3, 0, 2, 4]), shape);
  test('runs over the axes themselves, in fast numerics only', () => {
    const x = f32(3, 8, 4, 5, 6);
    const make = (y: Node): Node => g.neg(g.sum(merged(y, [8, 5, 72]), [0, 1], true));
    expectRewrite(make, 'neg(reshape[1,1,72](sum(permute(x))))', x, 'fast');
    expectRewrite(make, 'neg(sum(reshape[8,5,72](permute(x))))', x);
    const one = (y: Node): Node => g.neg(g.max(merged(y, [40, 72]), [1], false));
    expectRewrite(one, 'neg(reshape[40](max(permute(x))))', x, 'fast');
  });
  test('not if an axis was split, nor where nothing was permuted', () => {
    const x = f32(3, 8, 4, 5, 6);
    const split = (y: Node): Node => g.neg(g.sum(merged(y, [4, 10, 72]), [0, 1], true));
    expectRewrite(split, 'neg(sum(reshape[4,10,72](permute(x))))', x, 'fast');
    const plain = (y: Node): Node => g.neg(g.sum(g.reshape(y, [24, 120]), [0], true));
    expectRewrite(plain, 'neg(sum(reshape[24,120](x)))', x, 'fast');
  });
});

describe('choices, powers, copies', () => {
  test('a known condition, equal branches', () => {
    const [x, y, z] = [bool(2), f32(2), f32(2)];
    const yes = g.constant(1, 'bool');
    const roots = [
      g.abs(g.select(yes, y, z)),
      g.abs(g.select(g.logicalNot(yes), y, z)),
      g.abs(g.select(x, y, y)),
    ];
    expect(rewritten(roots, [x, y, z]).text).toEqual(['abs(y)', 'abs(z)', 'abs(y)']);
  });
  test('squares', () => {
    expectRewrite((x) => g.pow(x, c(2)), 'mul(x, x)');
    expectRewrite((x) => g.pow(x, c(3)), 'pow(x, 3[])');
  });
  test('copies', () => {
    expectRewrite((x) => g.neg(g.copy(g.copy(x))), 'neg(x)');
  });
});

describe('transposed-product', () => {
  test('only if nobody else needs the product', () => {
    const [x, y] = [f32(2, 3), f32(3, 4)];
    const product = g.matmul(x, y);
    expect(rewritten([g.neg(g.transpose(product))], [x, y]).text).toEqual([
      'neg(matmul(permute(y), permute(x)))',
    ]);
    const shared = g.matmul(x, y);
    expect(rewritten([g.transpose(shared), shared], [x, y]).text).toEqual([
      'permute(matmul(x, y))',
      'matmul(x, y)',
    ]);
  });
});

describe('common subexpressions and dead code', () => {
  test('equal nodes become one, equal leaves stay apart', () => {
    const [x, y] = [f32(2), f32(2)];
    const root = g.add(g.mul(x, x), g.mul(x, x));
    const program = programOf([root, g.mul(y, y)]);
    const { flow, applied } = rewrite(program, [], { numerics: 'strict', common: true });
    expect(flow.nodes.map(({ op }) => op.name)).toEqual(['input', 'mul', 'add', 'input', 'mul']);
    expect(applied.get(COMMON)).toBe(1);
  });
  test('attributes are part of what is compared', () => {
    const x = f32(2, 2);
    const program = programOf([g.add(g.sum(x, [0]), g.sum(x, [1]))]);
    const { flow } = rewrite(program, [], { numerics: 'strict', common: true });
    expect(flow.nodes.filter(({ op }) => op.name === 'sum')).toHaveLength(2);
  });
  test('what no root needs is gone; replacements say what stands for it', () => {
    const x = f32(2);
    const node = g.mul(x, c(1));
    const program = programOf([g.neg(node)]);
    const rules = [...SIMPLIFICATIONS];
    const { flow, replacements } = rewrite(program, rules, { numerics: 'strict', common: true });
    expect(flow.nodes.map(({ op }) => op.name)).toEqual(['input', 'neg']);
    expect(replacements[program.nodes.indexOf(node)]).toBe(x);
  });
});

test('roots that are leaves or equal are copied', () => {
  const x = f32(2);
  const leaves = new Map([[x, 0]]);
  const neg = g.neg(x);
  const roots = [x, neg, neg].map((node) => ({ node, inPlaceOf: -1 }));
  const flow = separateRoots(collectFlow(roots, leaves, new Map()));
  expect(flow.roots.map(({ node }) => text(node, [x]))).toEqual([
    'copy(x)',
    'neg(x)',
    'copy(neg(x))',
  ]);
});
