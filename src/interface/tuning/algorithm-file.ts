// Measurements of schedules in a file of the user's cache folder, so that the next process need not
// measure again. The file is data: times by schedule name.
import type * as Fs from 'node:fs';
import type * as Path from 'node:path';
import { makeFolder } from '../../base/make-folder.ts';
import { defaultCachePath } from '../../runtime/cache-path.ts';
import type { AlgorithmFile, Stored, Times } from './algorithm-store.ts';

const FILE = 'algorithms.json';
/** Bytes beyond which a file is not one of ours, or has gone wrong: it is left alone. */
const LARGEST = 32 * 1024 * 1024;

interface Place {
  readonly fs: typeof Fs;
  readonly path: string;
  /** Makes the folder. */
  make(): void;
}

/** The file of this user. Only for Node, whose modules are asked for when they are needed. */
export function algorithmFile(): AlgorithmFile {
  return {
    read: () => read(place()),
    add: (device, operation, times) => add(place(), device, operation, times),
    clear: () => {
      const { fs, path } = place();
      fs.rmSync(path, { force: true });
    },
  };
}

/** Looked up at each use: TENGEN_CACHE may be set by the program. */
function place(): Place {
  const fs = process.getBuiltinModule('node:fs') as typeof Fs;
  const path = process.getBuiltinModule('node:path') as typeof Path;
  const folder = defaultCachePath(process.env);
  const make = (): void => makeFolder({ fs, path }, folder, 0o700);
  return { fs, path: path.join(folder, FILE), make };
}

function read({ fs, path }: Place): Stored {
  try {
    if (fs.statSync(path).size > LARGEST) return {};
    return checked(JSON.parse(fs.readFileSync(path, 'utf8')) as unknown);
  } catch {
    return {};
  }
}

function checked(value: unknown): Stored {
  const stored = Object.create(null) as Stored;
  for (const [device, operations] of entriesOf(value)) {
    const known = Object.create(null) as Record<string, Times>;
    for (const [operation, times] of entriesOf(operations)) {
      const all = entriesOf(times);
      if (all.length > 0 && all.every((pair): pair is [string, number] => isTime(pair[1]))) {
        known[operation] = Object.fromEntries(all);
      }
    }
    stored[device] = known;
  }
  return stored;
}

const isTime = (value: unknown): boolean =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0;

function entriesOf(value: unknown): [string, unknown][] {
  return typeof value === 'object' && value !== null ? Object.entries(value) : [];
}

function add(place: Place, device: string, operation: string, times: Times): void {
  const { fs, path } = place;
  try {
    const stored = read(place);
    stored[device] = { ...stored[device], [operation]: times };
    place.make();
    const temporary = `${path}.${process.pid}.tmp`;
    fs.writeFileSync(temporary, JSON.stringify(stored), { mode: 0o600 });
    fs.renameSync(temporary, path);
  } catch {
    // A folder that cannot be written costs nothing but another measurement in the next process.
  }
}
