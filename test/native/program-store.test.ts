// Compiled programs on disk: what comes back runs as before, and what is not whole or not ours does not
// come back.
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { nativeUnavailable } from '../../src/backends/native/host.ts';
import { NativeProgramStore } from '../../src/backends/native/program-store.ts';
import type { Plan } from '../../src/runtime/plan.ts';
import type { StoredProgram } from '../../src/runtime/program-store.ts';
import { arena, binding, call, mirrorPlan, runMirror } from '../support/mirror-plan.ts';
import { temporaryFolder } from './support.ts';

const missing = nativeUnavailable();
const base = temporaryFolder();
let folders = 0;
const freshPath = (): string => join(base, `cache-${folders++}`);
const open = (path: string, fingerprint = 'machine'): NativeProgramStore =>
  NativeProgramStore.open(path, fingerprint) as NativeProgramStore;
const folderOf = (path: string): string => join(path, 'programs-v1');
const key = (context: string, ...words: number[]) => ({ context, words: Int32Array.from(words) });

const plan: Plan = mirrorPlan([
  call(binding(0), binding(0), arena(0)),
  call(arena(0), binding(0), arena(4), 1),
  call(arena(0), binding(0), binding(1)),
]);

describe.skipIf(missing !== null)(
  `stored programs${missing === null ? '' : ` (${missing})`}`,
  () => {
    const device = missing === null ? new NativeDevice({ threads: 2 }) : null;
    afterAll(() => device?.close());
    const loaded = device as NativeDevice;

    it('run as those that were compiled', async () => {
      const path = freshPath();
      const wanted = await runMirror(loaded, plan, 2);
      open(path).save(key('a', 1), { plans: [plan, plan], rest: '{"text":"∞"}' });
      const stored = open(path).load(key('a', 1)) as StoredProgram;
      expect(stored.rest).toBe('{"text":"∞"}');
      const [first, second] = stored.plans as readonly [Plan, Plan];
      expect(first.kernels[0]).toBe(second.kernels[0]);
      expect(Buffer.compare(await runMirror(loaded, first, 2), wanted)).toBe(0);
      expect(first.dispatches).toEqual(plan.dispatches);
      const condition = { location: arena(0), when: true };
      const loops = [{ first: 1, end: 3, depth: 0, trips: -1, condition }];
      open(path).save(key('loops'), { plans: [{ ...plan, loops }], rest: '' });
      expect(open(path).load(key('loops'))?.plans[0]?.loops).toEqual(loops);
      expect(() => first.kernels[0]?.body).toThrow('stored without its body');
    });

    it('are found by context, words and machine', () => {
      const path = freshPath();
      open(path).save(key('a', 1, 2), { plans: [plan], rest: '' });
      expect(open(path).load(key('a', 1, 2))).not.toBeNull();
      expect(open(path).load(key('b', 1, 2))).toBeNull();
      expect(open(path).load(key('a', 1))).toBeNull();
      expect(open(path).load(key('a', 1, 3))).toBeNull();
      expect(open(path, 'another').load(key('a', 1, 2))).toBeNull();
    });

    it('that were cut off or changed are removed', () => {
      const path = freshPath();
      for (const damage of [
        (text: string) => text.slice(0, -9),
        (text: string) => text.replace('mirror', 'mirrox'),
      ]) {
        open(path).save(key('a'), { plans: [plan], rest: '' });
        const [name] = readdirSync(folderOf(path));
        const file = join(folderOf(path), name as string);
        writeFileSync(file, damage(readFileSync(file, 'utf8')));
        expect(open(path).load(key('a'))).toBeNull();
        expect(readdirSync(folderOf(path))).toEqual([]);
      }
    });

    it('are not read from a folder that others can write to', () => {
      const path = freshPath();
      open(path).save(key('a'), { plans: [plan], rest: '' });
      chmodSync(folderOf(path), 0o777);
      expect(NativeProgramStore.open(path, 'machine')).toBeNull();
    });

    it('are kept nowhere if the folder cannot be made', () => {
      const file = join(base, 'file');
      writeFileSync(file, '');
      expect(NativeProgramStore.open(file, 'machine')).toBeNull();
    });

    it('are two hundred at most: those unused for longest go', () => {
      const path = freshPath();
      const store = open(path);
      mkdirSync(folderOf(path), { recursive: true });
      for (let i = 0; i < 205; i++) {
        const file = join(folderOf(path), `${i}.json`);
        writeFileSync(file, '');
        utimesSync(file, 1000 + i, 1000 + i);
      }
      store.save(key('new'), { plans: [plan], rest: '' });
      const left = readdirSync(folderOf(path));
      expect(left).toHaveLength(200);
      expect(left).not.toContain('5.json');
      expect(left).toContain('6.json');
      expect(store.load(key('new'))).not.toBeNull();
    });

    it('belong to a device whose cache lasts', () => {
      expect(loaded.programs).toBeInstanceOf(NativeProgramStore);
    });
  },
);
