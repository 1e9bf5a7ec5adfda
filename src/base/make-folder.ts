// Folders with those above them.
import type * as Fs from 'node:fs';
import type * as Path from 'node:path';

/** Modules of Node, handed in: most callers import them only where they are needed. */
export interface FolderModules {
  readonly fs: Pick<typeof Fs, 'mkdirSync' | 'statSync'>;
  readonly path: Pick<typeof Path, 'dirname'>;
}

/**
 * Makes a folder and those above it that are missing. Not `recursive` of `mkdirSync`: in Node 20 that
 * never ends where the system finds nothing although the folder above is there, as in /proc.
 *
 * @throws the system's error.
 */
export function makeFolder({ fs, path }: FolderModules, folder: string, mode = 0o777): void {
  const isThere = (): boolean =>
    fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true;
  if (isThere()) return;
  const above = path.dirname(folder);
  if (above !== folder) makeFolder({ fs, path }, above, mode);
  try {
    fs.mkdirSync(folder, { mode });
  } catch (error) {
    // Another process may have been faster.
    if (!isThere()) throw error;
  }
}
