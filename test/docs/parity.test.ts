// Every public name of PyTorch and every module of MegEngine: here too, or absent for a reason.
import { describe, expect, test } from 'vitest';
import * as tengen from 'tengen';
import * as fft from 'tengen/fft';
import * as linalg from 'tengen/linalg';
import * as vision from 'tengen/vision';
import { MEGENGINE, MEGENGINE_RENAMED, type Namespace, PYTORCH } from './parity.ts';

const { F, nn, optim } = tengen;

/** What holds the counterparts of a namespace. */
const HOLDERS: Readonly<Record<string, object>> = {
  torch: tengen,
  'torch.nn.functional': F,
  'torch.nn': nn,
  'torch.optim': optim,
  'torch.optim.lr_scheduler': optim,
  'torch.linalg': linalg,
  'torch.fft': fft,
  'torch.special': tengen,
  'torchvision.ops': vision,
  'torch.nn.init': nn.init,
  'torch.nn.utils': { ...nn, ...optim },
};

const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '');

/** `max_pool2d` as maxPool2d; classes keep their names. */
function camelCase(name: string): string {
  return name.replace(/(?<=[a-zA-Z0-9])_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

const isHere = (holder: object, name: string): boolean =>
  name in holder || camelCase(name) in holder;

function check(holder: object, { present, absent }: Namespace): void {
  const lost = words(present).filter((name) => !isHere(holder, name));
  expect(lost, 'named as present, but not there').toEqual([]);
  const came = Object.values(absent)
    .flatMap(words)
    .filter((name) => isHere(holder, name));
  expect(came, 'named as absent, but there').toEqual([]);
  const all = [...words(present), ...Object.values(absent).flatMap(words)];
  expect(all.filter((name, i) => all.indexOf(name) !== i)).toEqual([]);
}

test.each(Object.entries(PYTORCH))('%s', (name, namespace) => {
  const holder = HOLDERS[name];
  expect(holder).toBeDefined();
  check(holder!, namespace);
});

describe('what another entry holds', () => {
  test('is there', () => {
    const { absent } = PYTORCH['torch']!;
    const inF = words(absent['stands in F']!);
    expect(inF.length).toBeGreaterThan(20);
    expect(inF.filter((name) => !isHere(F, name))).toEqual([]);
    const inFft = words(absent['stands in tengen/fft']!);
    expect(inFft.filter((name) => !isHere(fft, name))).toEqual([]);
  });
});

test('modules of MegEngine', () => {
  const holder = { ...nn, ...vision };
  check(holder, MEGENGINE);
  expect(Object.values(MEGENGINE_RENAMED).filter((name) => !(name in holder))).toEqual([]);
});

test('a name that is lost, and one that came, are found', () => {
  expect(() => check(nn, { present: 'Linear Linnear', absent: {} })).toThrow('Linnear');
  expect(() => check(nn, { present: '', absent: { 'not there': 'Linear' } })).toThrow('Linear');
});
