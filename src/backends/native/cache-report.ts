// What the cache of compiled kernels holds, and its removal: for the command line.
import { lstatSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { defaultCachePath } from '../../runtime/cache-path.ts';
import { PROGRAMS_FOLDER } from './program-store.ts';

export interface CacheReport {
  readonly path: string;
  /** Compiled libraries, and the kernels that they hold. */
  readonly libraries: number;
  readonly kernels: number;
  /** Compiled programs: plans with the text of their kernels. */
  readonly programs: number;
  readonly bytes: number;
}

/** Counts what is in the cache folder; a folder that is not there holds nothing. */
export function cacheReport(env: NodeJS.ProcessEnv = process.env): CacheReport {
  const path = defaultCachePath(env);
  let [libraries, kernels, programs, bytes] = [0, 0, 0, 0];
  for (const name of namesIn(path)) {
    const stat = lstatSync(join(path, name), { throwIfNoEntry: false });
    if (stat === undefined) continue;
    if (stat.isSymbolicLink()) kernels++;
    else if (stat.isFile()) {
      bytes += stat.size;
      if (name.endsWith('.so')) libraries++;
      else if (name.includes(PROGRAMS_FOLDER)) programs++;
    }
  }
  return { path, libraries, kernels, programs, bytes };
}

/** Removes everything from the cache folder. What processes have loaded stays with them. */
export function clearCache(env: NodeJS.ProcessEnv = process.env): CacheReport {
  const report = cacheReport(env);
  rmSync(report.path, { recursive: true, force: true });
  return report;
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path, { recursive: true, encoding: 'utf8' });
  } catch {
    return [];
  }
}
