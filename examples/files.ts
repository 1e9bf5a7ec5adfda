// Whether results will have a place, found out before the work is done.
import { mkdir, open, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ArgumentError } from 'tengen';

/** Makes the folder of `path`, and throws ArgumentError unless a file can be written there. */
export async function checkWritable(flag: string, path: string): Promise<void> {
  const probe = `${path}.${process.pid}.tmp`;
  try {
    if (path === '') throw new Error('no name is given');
    // A pipe or a terminal, as /dev/stdout, is not replaced but written to.
    const known = await stat(path).catch(() => undefined);
    if (known !== undefined && !known.isFile() && !known.isDirectory()) return;
    await makeFolder(dirname(path));
    await (await open(probe, 'wx')).close();
    await rm(probe);
    // What is there already must be a file that may be written.
    const there = await open(path, 'r+').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    await there?.close();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ArgumentError(`${flag} ${path}: cannot be written (${reason})`, { cause });
  }
}

/** As mkdir's `recursive`, which never ends where the system refuses with ENOENT, as under /proc. */
async function makeFolder(folder: string): Promise<void> {
  const failure = await mkdir(folder).catch((error: NodeJS.ErrnoException) => error);
  if (!(failure instanceof Error) || failure.code === 'EEXIST') return;
  if (failure.code !== 'ENOENT' || dirname(folder) === folder) throw failure;
  await makeFolder(dirname(folder));
  await mkdir(folder);
}
