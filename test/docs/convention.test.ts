// The example runner itself: claims that hold pass, claims that do not fail, none is overlooked.
import { describe, expect, test } from 'vitest';
import * as check from './check.ts';
import { readExamples } from './collect.ts';
import type { Example } from './collect.ts';
import { moduleFor } from './convention.ts';

const nothing = {
  values: new Map<string, string>(),
  types: new Set<string>(),
  namespaces: new Map<string, string>(),
};

const exampleOf = (code: string): Example => ({
  path: 'a.ts',
  line: 1,
  code,
  mode: 'run',
  problem: undefined,
});

const convert = (code: string): string => moduleFor(exampleOf(code), nothing, 'check.ts');

describe('collecting', () => {
  test('bare and fenced docstring examples, with their lines', () => {
    const text = [
      '/**',
      ' * Adds.',
      ' * @example',
      ' * add(1, 2); // => 3',
      ' * @returns the sum',
      ' */',
      'export const a = 1;',
      '  /**',
      '   * @example no-run: needs a file',
      '   * load("x");',
      '   * @example',
      '   * ```ts',
      '   * two();',
      '   * ```',
      '   */',
    ].join('\n');
    const found = readExamples('src/a.ts', text);
    expect(found.map(({ line, code, mode }) => [line, code.trim(), mode])).toEqual([
      [4, 'add(1, 2); // => 3', 'run'],
      [10, 'load("x");', 'no-run'],
      [13, 'two();', 'run'],
    ]);
  });

  test('markdown fences: other languages are left alone, `continue` joins', () => {
    const text =
      '```sh\nls\n```\n```ts\nconst a = 1;\n```\nthen\n```ts continue\na; // => 1\n```\n';
    const found = readExamples('README.md', text);
    expect(found).toHaveLength(1);
    expect(found[0]?.line).toBe(5);
    expect(found[0]?.code.split('\n')[4]).toBe('a; // => 1');
  });

  test('an opt-out without a reason and a fence named otherwise are problems', () => {
    expect(readExamples('a.md', '```ts no-run\nx\n```')[0]?.problem).toContain('reason');
    expect(readExamples('a.md', '```ts slow\nx\n```')[0]?.problem).toContain("'slow' is unknown");
    expect(readExamples('a.md', '```ts sketch: a part\nx\n```')[0]?.problem).toBeUndefined();
    expect(readExamples('a.md', '```js\nx\n```')[0]?.problem).toContain('```ts');
  });
});

describe('converting', () => {
  test('keeps lines, and makes each claim a check', () => {
    const lines = convert(
      'const a = 1; // => 1\nf(\n  2,\n); // => [1,\n// 2]\nconsole.log(a); // prints 1\ng(); // throws E: no',
    ).split('\n');
    expect(lines[1]).toBe('const a = 1; await __check.value(a, "1", 0); // => 1');
    expect(lines[4]).toContain('), "[1,\\n2]", 3);');
    expect(lines[6]).toContain('__check.prints(async () => { console.log(a); }, "1", 5)');
    expect(lines[7]).toContain('__check.throws(async () => { g(); }, "E: no", 6)');
  });

  test('a block of printed lines stands below', () => {
    expect(convert('console.log(a);\n// prints\n// one\n// two\n')).toContain('"one\\ntwo"');
  });

  test('refuses what it could not check', () => {
    expect(() => convert('if (a) {\n  a; // => 1\n}')).toThrow('can be checked');
    expect(() => convert('f(); // 3')).toThrow("write '// => 3'");
  });

  test('imports what is used and not declared', () => {
    const values = new Map([
      ['relu', 'tengen'],
      ['x', 'tengen'],
      ['Shape', '../a.ts'],
    ]);
    const namespaces = new Map([['nn', 'tengen/nn']]);
    const implicit = { values, types: new Set(['Shape']), namespaces };
    const code = moduleFor(exampleOf('const x: Shape = nn.y(a.relu); relu(x);'), implicit, 'c.ts');
    const head = code.split('\n')[0];
    expect(head).toContain('import { relu } from "tengen";');
    expect(head).toContain('import { type Shape } from "../a.ts";');
    expect(head).toContain('import * as nn from "tengen/nn";');
    expect(head).not.toContain('{ x }');
  });
});

describe('checking', () => {
  const holds = async (actual: unknown, expected: string): Promise<boolean> =>
    check.value(actual, expected, 0).then(
      () => true,
      () => false,
    );

  test.each([
    [3, '3', true],
    [3, '4', false],
    [0.10000000149011612, '0.1', true],
    [0.14, '0.1', false],
    [0.7310585975646973, '0.7311', true],
    [0.7312, '0.7311', false],
    [1.23456e-7, '1.235e-7', true],
    [NaN, 'NaN', true],
    [1, 'NaN', false],
    [-Infinity, '-Infinity', true],
    ['a', "'a'", true],
    ['a', "'b'", false],
    [[1, [2]], '[1, [2]]', true],
    [[1, 2], '[1]', false],
    [{ a: [1], b: 'x' }, "{ a: [1], b: 'x' }", true],
    [{ a: 1, b: 2 }, '{ a: 1 }', false],
    [new Float32Array([1, 2]), '[1, 2]', true],
    [Promise.resolve(5), '5', true],
    [{ array: () => Promise.resolve([[1], [2]]) }, '[[1], [2]]', true],
    [{ toString: () => 'Tensor  of 3' }, 'Tensor of 3', true],
    [true, 'false', false],
    [5n, '5n', true],
  ])('%o is %s: %s', async (actual, expected, verdict) => {
    expect(await holds(actual, expected)).toBe(verdict);
  });

  test('printed text and errors', async () => {
    const print = async (): Promise<void> => console.log('a', 1);
    await expect(check.prints(print, 'a   1', 0)).resolves.toBeUndefined();
    await expect(check.prints(print, 'a 2', 0)).rejects.toThrow('prints');
    const fail = (): Promise<void> => Promise.reject(new RangeError('axis 3 of 2'));
    await expect(check.throws(fail, 'RangeError: axis 3', 0)).resolves.toBeUndefined();
    await expect(check.throws(fail, 'TypeError', 0)).rejects.toThrow('throws RangeError');
    await expect(check.throws(async () => undefined, 'X', 0)).rejects.toThrow('does not throw');
  });
});
