// Owns the list of package entries: read from package.json's exports, so that the build, the size
// report and the tests cannot disagree about it.
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Repository root, with a trailing slash. */
export const root = fileURLToPath(new URL('../', import.meta.url));

export interface Entry {
  /** What a user imports: `tengen`, `tengen/nn`. */
  specifier: string;
  /** Name of the output file without its extension: `index`, `nn`. */
  name: string;
  /** Source file relative to the root: `src/nn.ts`. */
  source: string;
}

function readEntries(): Entry[] {
  const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
    name: string;
    exports: Record<string, unknown>;
  };
  return Object.keys(manifest.exports)
    .filter((subpath) => subpath !== './package.json')
    .map((subpath) => {
      const name = subpath === '.' ? 'index' : subpath.slice(2);
      return { specifier: manifest.name + subpath.slice(1), name, source: `src/${name}.ts` };
    });
}

/** Every entry that package.json exports. */
export const entries: readonly Entry[] = readEntries();

/** The entries whose source file exists; the others are named on stderr, never dropped silently. */
export function presentEntries(): Entry[] {
  const missing = entries.filter((entry) => !existsSync(root + entry.source));
  for (const entry of missing) {
    console.error(`missing entry: package.json exports ${entry.specifier}, no ${entry.source}`);
  }
  return entries.filter((entry) => !missing.includes(entry));
}
