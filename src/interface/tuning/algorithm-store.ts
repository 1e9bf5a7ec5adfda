// What was measured of schedules: in memory, and where the entry of Node installed a file, in that too.

export interface AlgorithmStore {
  get(key: string): ReadonlyMap<string, number> | undefined;
  set(key: string, times: ReadonlyMap<string, number>): void;
}

/** Milliseconds by schedule. */
export type Times = Record<string, number>;
/** Device -> operation -> times. */
export type Stored = Record<string, Record<string, Times>>;

/** Keeps measurements for the next process. */
export interface AlgorithmFile {
  /** What it says; a missing, broken or foreign one says nothing. */
  read(): Stored;
  /** Adds to what other processes wrote meanwhile. */
  add(device: string, operation: string, times: Times): void;
  clear(): void;
}

const memory = new Map<string, Map<string, ReadonlyMap<string, number>>>();
let file: AlgorithmFile | null = null;

/** Makes measurements outlive the process. */
export function installAlgorithmFile(installed: AlgorithmFile): void {
  file = installed;
  memory.clear();
}

function entriesOf(device: string): Map<string, ReadonlyMap<string, number>> {
  let known = memory.get(device);
  if (known === undefined) {
    const stored = Object.entries(file?.read()[device] ?? {});
    known = new Map(stored.map(([key, times]) => [key, new Map(Object.entries(times))]));
    memory.set(device, known);
  }
  return known;
}

/** The measurements of one device. */
export function openAlgorithmStore(device: string): AlgorithmStore {
  const entries = entriesOf(device);
  return {
    get: (key) => entries.get(key),
    set: (key, times) => {
      entries.set(key, times);
      file?.add(device, key, Object.fromEntries(times));
    },
  };
}

/** One operation as it was measured on a device. */
export interface MeasuredAlgorithm {
  readonly device: string;
  readonly operation: string;
  /** Milliseconds by schedule, the fastest first. */
  readonly times: readonly (readonly [schedule: string, milliseconds: number])[];
}

/** Everything that was measured, by this process and, in Node, by earlier ones. */
export function measuredAlgorithms(): readonly MeasuredAlgorithm[] {
  for (const device of Object.keys(file?.read() ?? {})) entriesOf(device);
  return [...memory].flatMap(([device, operations]) =>
    [...operations].map(([operation, times]): MeasuredAlgorithm => {
      return { device, operation, times: [...times].sort((a, b) => a[1] - b[1]) };
    }),
  );
}

/** Forgets all measurements. */
export function clearMeasuredAlgorithms(): void {
  memory.clear();
  file?.clear();
}
