// What was measured of schedules: in memory, and in Node in a file of the user's cache folder, so that
// the next process need not measure again. The file is data: times by schedule name.
import type * as Fs from 'node:fs';
import type * as Os from 'node:os';
import type * as Path from 'node:path';

export interface AlgorithmStore {
  get(key: string): ReadonlyMap<string, number> | undefined;
  set(key: string, times: ReadonlyMap<string, number>): void;
}

/** Milliseconds by schedule. */
type Times = Record<string, number>;
/** Device -> operation -> times. */
type Stored = Record<string, Record<string, Times>>;

const FILE = 'algorithms.json';
/** Bytes beyond which a file is not one of ours, or has gone wrong: it is left alone. */
const LARGEST = 32 * 1024 * 1024;

const memory = new Map<string, Map<string, ReadonlyMap<string, number>>>();

/** The measurements of one device. */
export function openAlgorithmStore(device: string): AlgorithmStore {
  let known = memory.get(device);
  if (known === undefined) {
    known = new Map();
    for (const [key, times] of Object.entries(read()[device] ?? {})) {
      known.set(key, new Map(Object.entries(times)));
    }
    memory.set(device, known);
  }
  const entries = known;
  return {
    get: (key) => entries.get(key),
    set: (key, times) => {
      entries.set(key, times);
      write(device, key, Object.fromEntries(times));
    },
  };
}

/** One operation as it was measured on a device. */
export interface StoredChoice {
  readonly device: string;
  readonly operation: string;
  /** Milliseconds by schedule, the fastest first. */
  readonly times: readonly (readonly [schedule: string, milliseconds: number])[];
}

/** Everything in the file. */
export function storedChoices(): readonly StoredChoice[] {
  return Object.entries(read()).flatMap(([device, operations]) =>
    Object.entries(operations).map(([operation, times]): StoredChoice => {
      return { device, operation, times: Object.entries(times).sort((a, b) => a[1] - b[1]) };
    }),
  );
}

/** Forgets all measurements, in memory and in the file. */
export function clearChoices(): void {
  memory.clear();
  const host = files();
  if (host !== null) host.fs.rmSync(host.path, { force: true });
}

interface Host {
  readonly fs: typeof Fs;
  readonly folder: string;
  readonly path: string;
}

/** File access where there is any. Not imported: browsers load the same module. */
function files(): Host | null {
  if (typeof process !== 'object' || typeof process.getBuiltinModule !== 'function') return null;
  const fs = process.getBuiltinModule('node:fs') as typeof Fs | undefined;
  const os = process.getBuiltinModule('node:os') as typeof Os | undefined;
  const path = process.getBuiltinModule('node:path') as typeof Path | undefined;
  if (fs === undefined || os === undefined || path === undefined) return null;
  const base = process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache');
  const folder = process.env['TENGEN_CACHE'] ?? path.join(base, 'tengen');
  return { fs, folder, path: path.join(folder, FILE) };
}

/** What the file says; a missing, broken or foreign one says nothing. */
function read(): Stored {
  const host = files();
  if (host === null) return {};
  try {
    if (host.fs.statSync(host.path).size > LARGEST) return {};
    return checked(JSON.parse(host.fs.readFileSync(host.path, 'utf8')) as unknown);
  } catch {
    return {};
  }
}

function checked(value: unknown): Stored {
  const stored: Stored = Object.create(null) as Stored;
  for (const [device, operations] of entriesOf(value)) {
    const known: Record<string, Times> = Object.create(null) as Record<string, Times>;
    for (const [operation, times] of entriesOf(operations)) {
      const all = entriesOf(times);
      if (all.every((pair): pair is [string, number] => Number.isFinite(pair[1]))) {
        known[operation] = Object.fromEntries(all);
      }
    }
    stored[device] = known;
  }
  return stored;
}

function entriesOf(value: unknown): [string, unknown][] {
  return typeof value === 'object' && value !== null ? Object.entries(value) : [];
}

/** Adds to what other processes wrote meanwhile. A folder that cannot be written costs nothing. */
function write(device: string, key: string, times: Times): void {
  const host = files();
  if (host === null) return;
  const { fs, folder, path } = host;
  try {
    const stored = read();
    stored[device] = { ...stored[device], [key]: times };
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const temporary = `${path}.${process.pid}.tmp`;
    fs.writeFileSync(temporary, JSON.stringify(stored), { mode: 0o600 });
    fs.renameSync(temporary, path);
  } catch {
    // Measured again by the next process.
  }
}
