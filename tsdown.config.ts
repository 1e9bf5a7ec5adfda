// How the package is built: one ES module and one declaration file per entry, shared code in chunks.
import { defineConfig } from 'tsdown';
import { presentEntries } from './scripts/entries.ts';
import { withoutTestParts } from './scripts/strip-test-parts.ts';

export default defineConfig({
  entry: {
    ...Object.fromEntries(presentEntries().map(({ name, source }) => [name, source])),
    // The command of package.json's `bin`.
    cli: 'src/cli.ts',
  },
  format: 'esm',
  // One output for Node, Deno, Bun and browsers; node: modules are only imported dynamically.
  platform: 'neutral',
  target: 'es2022',
  outDir: 'dist',
  dts: true,
  sourcemap: true,
  plugins: [withoutTestParts],
  outputOptions: { chunkFileNames: 'chunks/[name]-[hash].js' },
});
