// Files that are either written whole or not at all: a temporary file beside the target, renamed.
import { describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { hasFiles } from './byte-source.ts';
import { asFileError } from '../../base/file-errors.ts';

/** One call of the system writes at most this much. */
const CHUNK = 1 << 26;

/** Takes the parts of a file in order. */
export type WritePart = (bytes: Uint8Array) => Promise<void>;

/** Throws ArgumentError unless `path` can be one; `usage` shows the order of arguments. */
export function checkPath(path: unknown, usage: string, op: string = 'save'): void {
  if (path instanceof URL || (typeof path === 'string' && path !== '')) return;
  throw new ArgumentError(`expected a path, got ${describeValue(path)}`, {
    op,
    hint: `the path comes first: ${usage}`,
  });
}

/**
 * Writes `path` through `produce`. The content is on disk (fsync) before it gets its name, so a
 * crash, a full disk or an exception leaves the previous file as it was. A link stays one: the file
 * that it leads to is replaced. What is no file (a device, a pipe) is written to as it is.
 *
 * @throws ArgumentError, with the system's `code`, if that cannot be done.
 */
export async function writeFileAtomically(
  path: string | URL,
  produce: (write: WritePart) => Promise<void>,
): Promise<void> {
  if (!hasFiles()) {
    throw new ArgumentError('there is no file system here to save to', {
      hint: 'use serialize(...), and offer the bytes as a download or put them in a database',
    });
  }
  checkPath(path, 'save(path, ...)');
  const fs = await import('node:fs/promises');
  const { basename, dirname, join } = await import('node:path');
  const { fileURLToPath } = await import('node:url');
  const given = path instanceof URL ? fileURLToPath(path) : path;
  const fail = (error: unknown): never => {
    throw asFileError(error, 'save', `write '${given}'`, hintFor(error));
  };
  const found = await fs.stat(given).catch(() => undefined);
  // A rename would put a file in the place of /dev/null.
  if (found?.isFile() === false) return fill(given, 'w', produce).catch(fail);
  const target = found === undefined ? given : await fs.realpath(given).catch(fail);
  const folder = dirname(target);
  const unique = `${process.pid}-${Math.random().toString(36).slice(2, 10)}`;
  const temporary = join(folder, `.${basename(target)}.${unique}.tmp`);
  try {
    await fill(temporary, 'wx', produce);
    await fs.rename(temporary, target);
  } catch (error) {
    await fs.rm(temporary, { force: true }).catch(() => undefined);
    return fail(error);
  }
  await syncFolder(folder);
}

/** Writes what `produce` gives; a new file (`wx`) is on disk afterwards. */
async function fill(
  path: string,
  flag: 'w' | 'wx',
  produce: (write: WritePart) => Promise<void>,
): Promise<void> {
  const fs = await import('node:fs/promises');
  const handle = await fs.open(path, flag);
  try {
    await produce(async (bytes) => {
      let done = 0;
      while (done < bytes.byteLength) {
        const want = Math.min(CHUNK, bytes.byteLength - done);
        done += (await handle.write(bytes, done, want)).bytesWritten;
      }
    });
    if (flag === 'wx') await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Only where the folder can be the reason. */
function hintFor(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const isFolder = ['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'EROFS'].includes(code);
  return isFolder ? 'is the folder there, and writable?' : undefined;
}

/** Makes the new name itself durable, where folders can be synced (not on Windows). */
async function syncFolder(folder: string): Promise<void> {
  const fs = await import('node:fs/promises');
  const handle = await fs.open(folder, 'r').catch(() => undefined);
  if (handle === undefined) return;
  try {
    await handle.sync().catch(() => undefined);
  } finally {
    await handle.close();
  }
}
