// What runs when and what lives until when, if some values are given up between two uses and computed
// again by the same kernels. Searches ask this thousands of times: everything is in flat arrays.
import type { Unit, Units } from './units.ts';

/** Runs of units, for the first time or again, and what they make. */
export interface Timeline {
  /** Of each run: its unit, and the unit for whose sake it runs. They differ if it runs again. */
  readonly unit: Int32Array;
  readonly at: Int32Array;
  /** Of each run: where its instances begin, those that it reads before those that it writes. */
  readonly begin: Int32Array;
  readonly touched: Int32Array;
  /** Of each instance, a value as it was computed once: the value, first and last run. */
  readonly value: Int32Array;
  readonly first: Int32Array;
  readonly last: Int32Array;
  readonly peak: number;
  readonly peakAt: number;
  /** Arithmetic and estimated time of what runs again. */
  readonly extraFlops: number;
  readonly extraCost: number;
}

/** A value that cannot be computed again where it is needed, and what it was needed for. */
export interface Blocked {
  readonly blocked: number;
  readonly wanted: number;
}

/** More runs than this per unit are no plan any more. */
const RUNS_LIMIT = 8;

/** Values of fewer bytes than this part of all are never given up: they may as well stay. */
const SMALL = 1 / 4096;

export function isBlocked(outcome: Timeline | Blocked): outcome is Blocked {
  return 'blocked' in outcome;
}

/** The instances of run `run`: of the unit's reads and writes, in their order. */
export function instancesOf({ begin, touched }: Timeline, run: number): Int32Array {
  return touched.subarray(begin[run], begin[run + 1]);
}

export class Simulator {
  readonly program: Units;
  /** Position of the last unit that reads a value. */
  readonly lastUse: Int32Array;
  /** Values that are kept as long as anybody may ask for them. */
  readonly small: Uint8Array;
  readonly #bytes: Float64Array;
  readonly #writer: Int32Array;
  readonly #present: Int32Array;
  readonly #overwritten: Int32Array;
  readonly #dropped: Int32Array;
  #next = new Int32Array(0);
  readonly #temporary: number[] = [];
  // The runs so far.
  readonly #unit: Int32Array;
  readonly #at: Int32Array;
  readonly #begin: Int32Array;
  #touched: Int32Array;
  #value: Int32Array;
  #first: Int32Array;
  #last: Int32Array;
  #runs = 0;
  #touches = 0;
  #instances = 0;
  #blocked = -1;
  #extraFlops = 0;
  #extraCost = 0;

  constructor(program: Units) {
    this.program = program;
    const { units, values, bindings } = program;
    this.lastUse = Int32Array.from(values, ({ readers }) => readers.at(-1) ?? -1);
    const total = values.reduce((sum, { bytes }) => sum + bytes, 0);
    this.small = Uint8Array.from(values, ({ bytes }) => (bytes < total * SMALL ? 1 : 0));
    this.#bytes = Float64Array.from(values, ({ bytes }) => bytes);
    this.#writer = Int32Array.from(values, ({ writer }) => writer);
    this.#present = new Int32Array(values.length);
    this.#overwritten = new Int32Array(bindings);
    this.#dropped = new Int32Array(units.length);
    const runs = RUNS_LIMIT * units.length + 1;
    this.#unit = new Int32Array(runs);
    this.#at = new Int32Array(runs);
    this.#begin = new Int32Array(runs + 1);
    const touches = units.reduce((sum, { reads, writes }) => sum + reads.length + writes.length, 0);
    this.#touched = new Int32Array(2 * touches + 64);
    this.#value = new Int32Array(2 * values.length + 64);
    this.#first = new Int32Array(2 * values.length + 64);
    this.#last = new Int32Array(2 * values.length + 64);
  }

  /**
   * @param drops values given up, with the unit after which: `value * units + position`.
   * @param pinned values that stay for those that run again, beyond their last use.
   */
  run(drops: readonly number[], pinned?: Uint8Array): Timeline | Blocked {
    const { units } = this.program;
    const writer = this.#writer;
    const present = this.#present.fill(-1);
    this.#overwritten.fill(-1);
    this.#arrange(drops);
    this.#runs = 0;
    this.#touches = 0;
    this.#instances = 0;
    this.#extraFlops = 0;
    this.#extraCost = 0;
    for (let at = 0; at < units.length; at++) {
      const unit = units[at] as Unit;
      for (const value of unit.reads) {
        if ((present[value] as number) >= 0) continue;
        // What several units write has its place from the first of them to the last reader.
        if ((writer[value] as number) < 0) present[value] = this.#instance(value);
        else if (!this.#computeAgain(value, at)) return { blocked: this.#blocked, wanted: value };
      }
      this.#emit(at, at);
      for (const value of unit.reads) this.#release(value, at, pinned);
      for (const value of this.#temporary) this.#release(value, at, pinned);
      this.#temporary.length = 0;
      for (let drop = this.#dropped[at] as number; drop >= 0; drop = this.#next[drop] as number) {
        present[Math.floor((drops[drop] as number) / units.length)] = -1;
      }
      for (const binding of unit.targets) this.#overwritten[binding] = at;
    }
    return this.#measured();
  }

  /** Lists of drops by position. */
  #arrange(drops: readonly number[]): void {
    if (this.#next.length < drops.length) this.#next = new Int32Array(2 * drops.length);
    const { length } = this.program.units;
    this.#dropped.fill(-1);
    for (let i = 0; i < drops.length; i++) {
      const at = (drops[i] as number) % length;
      this.#next[i] = this.#dropped[at] as number;
      this.#dropped[at] = i;
    }
  }

  #release(value: number, at: number, pinned: Uint8Array | undefined): void {
    if ((this.lastUse[value] as number) > at || this.small[value] === 1) return;
    if (pinned?.[value] === 1 || (this.#writer[value] as number) < 0) return;
    this.#present[value] = -1;
  }

  /** Runs what computes `value` again, and before it what that needs. Depth is that of the chain. */
  #computeAgain(value: number, at: number): boolean {
    const which = this.#writer[value] as number;
    const unit = this.program.units[which];
    this.#blocked = value;
    if (unit === undefined || this.#runs >= RUNS_LIMIT * this.program.units.length - at) {
      return false;
    }
    for (const binding of unit.sources) {
      if ((this.#overwritten[binding] as number) >= which) return false;
    }
    for (const input of unit.reads) {
      if ((this.#writer[input] as number) < 0) return false;
      if ((this.#present[input] as number) < 0 && !this.#computeAgain(input, at)) return false;
    }
    this.#extraFlops += unit.flops;
    this.#extraCost += unit.cost;
    this.#emit(which, at);
    return true;
  }

  #instance(value: number): number {
    const instance = this.#instances++;
    if (instance === this.#value.length) {
      this.#value = grown(this.#value);
      this.#first = grown(this.#first);
      this.#last = grown(this.#last);
    }
    this.#value[instance] = value;
    this.#first[instance] = this.#runs;
    this.#last[instance] = this.#runs;
    return instance;
  }

  #emit(which: number, at: number): void {
    const { reads, writes } = this.program.units[which] as Unit;
    const present = this.#present;
    const now = this.#runs;
    this.#unit[now] = which;
    this.#at[now] = at;
    this.#begin[now] = this.#touches;
    if (this.#touches + reads.length + writes.length > this.#touched.length) {
      this.#touched = grown(this.#touched);
    }
    for (const value of reads) {
      const instance = present[value] as number;
      this.#last[instance] = now;
      this.#touched[this.#touches++] = instance;
    }
    for (const value of writes) {
      const instance = this.#instance(value);
      // What is still there is not replaced: those that read it need not know of another.
      if (which === at || (present[value] as number) < 0) present[value] = instance;
      if (which !== at) this.#temporary.push(value);
      this.#touched[this.#touches++] = instance;
    }
    this.#runs = now + 1;
    this.#begin[now + 1] = this.#touches;
  }

  #measured(): Timeline {
    const runs = this.#runs;
    const alive = new Float64Array(runs + 1);
    for (let i = 0; i < this.#instances; i++) {
      const bytes = this.#bytes[this.#value[i] as number] as number;
      const [first, end] = [this.#first[i] as number, (this.#last[i] as number) + 1];
      alive[first] = (alive[first] as number) + bytes;
      alive[end] = (alive[end] as number) - bytes;
    }
    let [sum, peak, peakAt] = [0, 0, 0];
    for (let run = 0; run < runs; run++) {
      sum += alive[run] as number;
      const { inner, shares, reads } = this.program.units[this.#unit[run] as number] as Unit;
      let bytes = sum + inner;
      if (bytes <= peak) continue;
      if (shares.length > 0) bytes -= this.#shared(shares, reads.length, run);
      if (bytes > peak) [peak, peakAt] = [bytes, run];
    }
    return {
      unit: this.#unit.slice(0, runs),
      at: this.#at.slice(0, runs),
      begin: this.#begin.slice(0, runs + 1),
      touched: this.#touched.slice(0, this.#touches),
      value: this.#value.slice(0, this.#instances),
      first: this.#first.slice(0, this.#instances),
      last: this.#last.slice(0, this.#instances),
      peak,
      peakAt,
      extraFlops: this.#extraFlops,
      extraCost: this.#extraCost,
    };
  }

  /** Bytes of results that take the place of operands which die in this run. */
  #shared(shares: Unit['shares'], reads: number, run: number): number {
    const begin = this.#begin[run] as number;
    const taken: number[] = [];
    let bytes = 0;
    for (const [result, operand] of shares) {
      const from = this.#touched[begin + operand] as number;
      const to = this.#touched[begin + reads + result] as number;
      if (this.#last[from] !== run || taken.includes(from) || taken.includes(to)) continue;
      taken.push(from, to);
      bytes += this.#bytes[this.#value[from] as number] as number;
    }
    return bytes;
  }
}

function grown(array: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * array.length);
  larger.set(array);
  return larger;
}
