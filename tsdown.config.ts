// How the package is built: one ES module and one declaration file per entry, shared code in chunks.
import { defineConfig } from 'tsdown';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { presentEntries } from './scripts/entries.ts';
import { withoutTestParts } from './scripts/strip-test-parts.ts';

/** Of everything that is built: src/base/build.ts. */
function sourceHash(): string {
  const hash = createHash('sha256');
  const names = readdirSync('src', { recursive: true, encoding: 'utf8' }).sort();
  for (const name of names) {
    if (name.endsWith('.ts')) hash.update(name).update(readFileSync(`src/${name}`));
  }
  return hash.digest('hex').slice(0, 16);
}

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
  define: { TENGEN_BUILD: JSON.stringify(sourceHash()) },
  sourcemap: true,
  plugins: [withoutTestParts],
  outputOptions: { chunkFileNames: 'chunks/[name]-[hash].js' },
});
