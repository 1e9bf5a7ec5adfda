// The pages for users of other frameworks: every name of Tengen in their tables exists.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import * as tengen from 'tengen';
import * as data from 'tengen/data';
import * as extend from 'tengen/extend';
import * as fft from 'tengen/fft';
import * as io from 'tengen/io';
import * as linalg from 'tengen/linalg';
import * as onnx from 'tengen/onnx';
import * as vision from 'tengen/vision';
import { root } from '../../scripts/entries.ts';

const { nn, optim, tensor } = tengen;
const layer = new nn.Linear(1, 1);

/** What the pages write before a dot. */
const OBJECTS: Readonly<Record<string, unknown>> = {
  ...tengen,
  data,
  extend,
  fft,
  io,
  linalg,
  onnx,
  vision,
  x: tensor([[1]]),
  model: layer,
  optimizer: new optim.SGD(layer.parameters()),
  loader: new data.DataLoader([1]),
  manager: new tengen.GradManager(),
  traced: tengen.trace((x: tengen.Tensor) => x),
};

/** The names in the columns called Tengen that stand second in tables: `F.conv2d(x)` is F.conv2d. */
function namesOf(page: string): string[] {
  let isOurs = false;
  return page.split('\n').flatMap((line) => {
    if (!line.startsWith('|')) {
      isOurs = false;
      return [];
    }
    // A bar within code is escaped.
    const [, , cell = ''] = line.split(/(?<!\\)\|/);
    isOurs ||= cell.trim() === 'Tengen';
    if (!isOurs) return [];
    return Array.from(cell.matchAll(/`([A-Za-z_$][\w$.]*)[^`]*`/g), ([, name = '']) => name);
  });
}

function exists(name: string): boolean {
  let value: unknown = OBJECTS;
  for (const part of name.split('.')) {
    if (typeof value !== 'object' && typeof value !== 'function') return false;
    if (value === null || !(part in value)) return false;
    value = (value as Record<string, unknown>)[part];
  }
  return true;
}

describe.each(['docs/from-pytorch.md', 'docs/from-megengine.md'])('%s', (path) => {
  const page = readFileSync(join(root, path), 'utf8');

  test('names what exists', () => {
    const names = namesOf(page);
    expect(names.length).toBeGreaterThan(100);
    expect(names.filter((name) => !exists(name))).toEqual([]);
  });

  test('links to pages that exist', () => {
    for (const [, target = ''] of page.matchAll(/\]\(([\w./-]+\.md)[^)]*\)/g)) {
      expect(existsSync(join(root, 'docs', target)), target).toBe(true);
    }
  });
});

test('a name that does not exist is found', () => {
  const row = '| `old` | `F.conv2d(x)` `F.conv9d` `x.sum` `x.total` `sums` | `ignored.here` |';
  const page = ['| Old | Tengen | |', '| --- | --- | --- |', row, '', row].join('\n');
  expect(namesOf(page).filter((name) => !exists(name))).toEqual(['F.conv9d', 'x.total', 'sums']);
});
