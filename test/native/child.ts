// A process of its own for tests of the compile cache: opens the cache at the path in argv[2], loads
// kernels, runs them, and prints its counters.
import { CompileCache } from '../../src/backends/native/compile-cache.ts';
import { requireForeign } from '../../src/backends/native/foreign.ts';
import { requireToolchain } from '../../src/backends/native/toolchain.ts';

const cache = new CompileCache({
  toolchain: requireToolchain(),
  foreign: requireForeign(),
  path: process.argv[2] ?? '',
  parallel: 2,
});
// Padded, so that there are several translation units.
const units = Array.from({ length: 8 }, (_, i) => ({
  declarations: [],
  definition: `int f(int x) { return x * ${i + 1}; } /* ${' '.repeat(5000)} */`,
  exports: ['f'],
}));
process.stdout.write('compiling\n');
const loaded = cache.load(units);
const values = loaded.map((unit) => unit.function('f', { parameters: ['i32'], result: 'i32' })(10));
process.stdout.write(
  `${JSON.stringify({ values, ...cache.statistics, fallback: cache.fallback })}\n`,
);
