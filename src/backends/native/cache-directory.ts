// A directory of compiled libraries that no other user can write to: libraries named by the hash of
// their bytes, and links from keys to them. Safe with many processes at once and with kill -9.
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  futimesSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { makeFolder } from '../../base/make-folder.ts';

/** Changes with the layout of the directory, so that no version reads the files of another. */
const LAYOUT = 'v1';
const LIBRARY = /^[0-9a-f]{40}\.so$/;
const LINK = /^[0-9a-f]{32}$/;
const WORK = /^work-/;
/** A build takes minutes at most: what is older was left by a process that was killed. */
const LEFTOVER_MS = 60 * 60 * 1000;
/** Name of a temporary directory, before the number of its process. */
const TEMPORARY = 'tengen-native-';
/** How full a prune leaves the directory, so that not every build has to prune. */
const PRUNE_TO = 0.9;

export class CacheDirectory {
  /** Without symbolic links, so that nobody can lead it elsewhere later. */
  readonly path: string;
  readonly limitBytes: number;
  /** Whether it ends with this process. */
  readonly temporary: boolean;

  private constructor(path: string, limitBytes: number, temporary: boolean) {
    this.path = path;
    this.limitBytes = limitBytes;
    this.temporary = temporary;
  }

  /** The cache at a path, made if missing; or in one line why it cannot be used. */
  static open(path: string, limitBytes: number): CacheDirectory | string {
    try {
      const folder = join(path, LAYOUT);
      makeFolder({ fs: { mkdirSync, statSync }, path: { dirname } }, folder, 0o700);
      const real = realpathSync(folder);
      const objection = objectionTo(real);
      if (objection !== undefined) return objection;
      const directory = new CacheDirectory(real, limitBytes, false);
      // A read-only directory shows here and not after a minute of compiling.
      rmSync(directory.makeWork(), { recursive: true });
      directory.#removeLeftovers();
      return directory;
    } catch (error) {
      return messageOf(error);
    }
  }

  /** A directory of this process alone, removed when it exits; or why there is none. */
  static openTemporary(limitBytes: number): CacheDirectory | string {
    try {
      // Mode 0700, and a name that did not exist.
      const path = realpathSync(mkdtempSync(join(tmpdir(), `${TEMPORARY}${process.pid}-`)));
      removeDead(dirname(path));
      process.once('exit', () => rmSync(path, { recursive: true, force: true }));
      return objectionTo(path) ?? new CacheDirectory(path, limitBytes, true);
    } catch (error) {
      return messageOf(error);
    }
  }

  /** A new empty folder on the same file system. The caller removes it. */
  makeWork(): string {
    const path = join(this.path, `work-${process.pid}-${randomBytes(8).toString('hex')}`);
    mkdirSync(path, { mode: 0o700 });
    return path;
  }

  /** Moves a finished library in, under the hash of its bytes. Returns its name. */
  adopt(file: string): string {
    const name = nameOf(readFileSync(file));
    renameSync(file, join(this.path, name));
    return name;
  }

  /** Notes that a library answers a key. A link is made whole or not at all, and needs no block. */
  link(key: string, library: string): void {
    const temporary = join(this.path, `work-${process.pid}-${randomBytes(8).toString('hex')}`);
    symlinkSync(library, temporary);
    renameSync(temporary, join(this.path, key));
  }

  /** The library that answers a key, if one is noted. It may be gone or broken: see `verify`. */
  lookUp(key: string): string | undefined {
    try {
      const name = readlinkSync(join(this.path, key));
      return LIBRARY.test(name) ? name : undefined;
    } catch {
      return undefined;
    }
  }

  /**
   * The path of a library whose bytes are what its name says, marked as used now. A file that is
   * not is removed. The path is loaded right after: in between only this user could exchange the
   * file, since nobody else can write to the directory or to those above it.
   */
  verify(name: string): string | undefined {
    const path = join(this.path, name);
    let file: number;
    try {
      // Neither a link to elsewhere, nor waiting for the other end of a pipe.
      file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch {
      return undefined;
    }
    try {
      if (fstatSync(file).isFile() && nameOf(readFileSync(file)) === name) {
        touch(file);
        return path;
      }
    } catch {
      // A file that cannot be read is as good as none.
    } finally {
      closeSync(file);
    }
    this.remove(name);
    return undefined;
  }

  /** Removes a library that is of no use. */
  remove(name: string): void {
    rmSync(join(this.path, name), { recursive: true, force: true });
  }

  /** Removes least recently used libraries while there are too many bytes. Returns how many. */
  prune(): number {
    const libraries = this.#list(LIBRARY);
    let bytes = libraries.reduce((sum, { size }) => sum + size, 0);
    if (bytes <= this.limitBytes) return 0;
    libraries.sort((a, b) => a.mtimeMs - b.mtimeMs);
    let removed = 0;
    for (const { name, size } of libraries) {
      if (bytes <= this.limitBytes * PRUNE_TO) break;
      // Processes that have it mapped keep it; one about to load it builds it again.
      rmSync(join(this.path, name), { force: true });
      bytes -= size;
      removed++;
    }
    this.#removeLinks(new Set(libraries.slice(removed).map(({ name }) => name)));
    return removed;
  }

  #removeLinks(present: ReadonlySet<string>): void {
    for (const name of readdirSync(this.path)) {
      if (!LINK.test(name)) continue;
      const library = this.lookUp(name);
      if (library === undefined || !present.has(library)) {
        rmSync(join(this.path, name), { force: true });
      }
    }
  }

  #removeLeftovers(): void {
    const before = Date.now() - LEFTOVER_MS;
    for (const { name, mtimeMs } of this.#list(WORK)) {
      if (mtimeMs < before) rmSync(join(this.path, name), { recursive: true, force: true });
    }
  }

  #list(pattern: RegExp): { name: string; size: number; mtimeMs: number }[] {
    return readdirSync(this.path).flatMap((name) => {
      if (!pattern.test(name)) return [];
      // Another process may remove it between the two calls.
      const stat = lstatSync(join(this.path, name), { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ name, size: stat.size, mtimeMs: stat.mtimeMs }];
    });
  }
}

/** Removes temporary directories of processes that were killed before they could. */
function removeDead(parent: string): void {
  for (const name of readdirSync(parent)) {
    const pid = name.startsWith(TEMPORARY) ? Number.parseInt(name.slice(TEMPORARY.length)) : NaN;
    if (!(pid > 0)) continue;
    const path = join(parent, name);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    // The age as well: in a container, numbers of processes outside mean nothing.
    const old = stat !== undefined && stat.mtimeMs < Date.now() - LEFTOVER_MS;
    if (old && stat.isDirectory() && stat.uid === process.getuid?.() && !isAlive(pid)) {
      rmSync(path, { recursive: true, force: true });
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function nameOf(bytes: Uint8Array): string {
  return `${createHash('sha256').update(bytes).digest('hex').slice(0, 40)}.so`;
}

function touch(file: number): void {
  const now = new Date();
  try {
    futimesSync(file, now, now);
  } catch {
    // Only the order of removal suffers.
  }
}

/**
 * Why another user could put files where `path`, a real path, leads; undefined if none could. The
 * directory must be ours. Those above must belong to us or to whoever owns `/`, who can do anything
 * anyway, and only a sticky one (/tmp) may be written to by others.
 */
export function objectionTo(path: string): string | undefined {
  const user = process.getuid?.();
  if (user === undefined) return undefined;
  const trusted = new Set([user, 0, statSync('/').uid]);
  for (let folder = path; ; folder = dirname(folder)) {
    const { uid, mode } = lstatSync(folder);
    const leaf = folder === path;
    if (leaf ? uid !== user : !trusted.has(uid))
      return `${folder} belongs to user ${uid}, not to us`;
    const open = (mode & 0o022) !== 0;
    if (open && (leaf || (mode & 0o1000) === 0)) {
      return `${folder} can be written to by others (chmod go-w would do)`;
    }
    if (folder === dirname(folder)) return undefined;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
