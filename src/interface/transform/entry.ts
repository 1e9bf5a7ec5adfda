// What the evaluator keeps of a plan, and what it knows of one run.
import type { CompiledProgram, Root } from '../../compile/program.ts';
import type { Node, Origin } from '../../graph/node.ts';
import type { DeviceBuffer, Executable } from '../../runtime/device.ts';
import type { Storage } from '../../runtime/storage.ts';
import type { NodeHolder } from '../tensor/engine.ts';
import type { Ahead } from './ahead.ts';

export interface Assignment {
  readonly holder: NodeHolder;
  readonly storage: Storage;
  readonly node: Node;
  readonly inPlace: boolean;
}

/** What a run is to give, in the order of its plan's roots; learned values stand before guards. */
export interface Results {
  readonly rootNodes: readonly Node[];
  readonly assigned: readonly Assignment[];
  /** Of result nodes and assignments. */
  readonly roots: readonly Root[];
  /** Computed indices that must be in range: two guards each. */
  readonly promises: readonly Node[];
}

/** A run of a plan, named by the nodes that it computed but did not keep. */
export interface Run extends Origin {
  readonly entry: Entry;
}

/** Values a run kept because the plan had learned that they are wanted. */
export interface KeptValues {
  readonly run: Run;
  readonly generation: number;
  readonly nodes: Node[];
}

/** A cached plan, what it learned, and the memory that its runs reuse. */
export interface Entry {
  compiled: CompiledProgram;
  executable: Executable;
  /** What runs ahead of the plan when a parameter it reads has changed. */
  ahead: Ahead | null;
  /** Positions that later plans asked for. */
  readonly learned: Set<number>;
  /** Positions that the present executable keeps because they were learned. */
  learnedRoots: number[];
  stale: boolean;
  bindings: DeviceBuffer[];
  scalars: Float64Array;
  staging: (DeviceBuffer | null)[];
  stagedStorage: (Storage | null)[];
  stagedVersion: number[];
  kept: KeptValues[];
  runs: number;
  /** What `profile` measured of the present executable. */
  measured: Measured | null;
}

/** Sums over runs, in milliseconds. */
export interface Measured {
  runs: number;
  wallMs: number;
  /** Of each dispatch; empty where the device cannot tell. */
  readonly dispatches: Float64Array;
}

/** Runs a plan and adds to what was measured of it. */
export function runMeasured(entry: Entry): void {
  const { executable, bindings, scalars } = entry;
  const start = performance.now();
  let times = new Float64Array(0);
  if (executable.profile === undefined) executable.run(bindings, scalars);
  else times = new Float64Array(executable.profile(bindings, scalars));
  entry.measured ??= { runs: 0, wallMs: 0, dispatches: new Float64Array(times.length) };
  const { measured } = entry;
  for (let i = 0; i < times.length; i++) {
    measured.dispatches[i] = (measured.dispatches[i] as number) + (times[i] as number);
  }
  measured.wallMs += performance.now() - start;
  measured.runs++;
}
