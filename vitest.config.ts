// How the tests run. Slow files end in .slow.test.ts: `npm test` runs them, `npm run check` does not.
import { defineConfig } from 'vitest/config';
import { entries, root } from './scripts/entries.ts';

export default defineConfig({
  resolve: {
    // Tests and examples import the package by its name, and get the sources.
    alias: entries.map(({ specifier, source }) => ({
      find: new RegExp(`^${specifier}$`),
      replacement: root + source,
    })),
  },
  test: {
    include: ['test/**/*.test.ts'],
    // A process per file: a leak, a worker pool or a flag of one file never reaches another.
    pool: 'forks',
    maxWorkers: 2,
    // Leak tests ask for a collection instead of hoping for one.
    execArgv: ['--expose-gc'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    teardownTimeout: 5_000,
    restoreMocks: true,
    unstubEnvs: true,
    allowOnly: false,
    // Whole trees, so that a failed comparison of two graphs shows where they differ.
    expandSnapshotDiff: true,
  },
});
