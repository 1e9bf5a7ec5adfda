// Compiled programs that outlive their process: what a device may offer, so that the next process
// need not compile the same program again.
import type { Plan } from './plan.ts';

/** Everything that decides what a program compiles to, but for the device. */
export interface ProgramKey {
  readonly context: string;
  readonly words: Int32Array;
}

/** A program in parts: what the device runs, and what only its owner understands. */
export interface StoredProgram {
  readonly plans: readonly Plan[];
  /** Text of the owner's, returned as it was. */
  readonly rest: string;
}

export interface ProgramStore {
  /**
   * The program saved under this key, or null. Its kernels can be loaded by this device and by no other:
   * they have no body.
   */
  load(key: ProgramKey): StoredProgram | null;
  /** Keeps a program that the device has loaded. What cannot be written is not kept. */
  save(key: ProgramKey, program: StoredProgram): void;
}
