// Settings at the start of a program: nothing has been computed here yet.
import { afterAll, expect, test } from 'vitest';
import { configure, env, setDefaultDevice } from 'tengen';

afterAll(() => setDefaultDevice('auto'));

test("'auto' is the preferred device, whatever the default is and with other settings beside it", () => {
  const preferred = env().devices.find(({ unavailable }) => unavailable === null)?.name;
  setDefaultDevice('wasm');
  configure({ device: 'auto', threads: 1 });
  expect(env().device).toBe(preferred);
  expect(env().threads).toBe(1);
  expect(() => configure({ device: 'gpu', threads: 1 })).toThrow(/there is no device 'gpu'/);
});
