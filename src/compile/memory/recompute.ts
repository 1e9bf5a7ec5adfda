// Which values are given up between two uses and computed again, so that a program fits into fewer
// bytes: by segments (Chen et al. 2016, "Training deep nets with sublinear memory cost"), by a search
// that gives up what frees most bytes for its time, and by both.
import { internalError } from '../../base/errors.ts';
import { isBlocked, Simulator, type Timeline } from './timeline.ts';
import type { Unit, Units, Value } from './units.ts';

export interface Solution {
  /** Values given up, with the units after which: `value * units + position`. */
  readonly choice: readonly number[];
  readonly pinned: Uint8Array | undefined;
  readonly timeline: Timeline;
}

/** Lengths of segments that are tried, as parts of all that could be given up. */
const SEGMENT_SIZES = 28;
/** Plans from segments that the search goes on from. */
const STARTS = 3;
/** A step of the search may raise the peak by this much: another step may need it. */
const TOLERANCE = 1.02;
/** Units that one value's chain may be long for the estimate of its cost. */
const CHAIN_LIMIT = 64;
/** Runs that one way down may simulate, over all of its steps: bounds the time of a compilation. */
const EFFORT = 3e6;
/** Steps without a lower peak after which a way down ends. */
const PATIENCE = 40;
/** A plan may take this many times the time of the program in addition. */
const MOST_EXTRA = 2;

export class Recomputation {
  readonly #program: Units;
  readonly #simulator: Simulator;
  readonly #base: Timeline;
  #turnAt = -1;
  #effort = 0;

  constructor(program: Units) {
    this.#program = program;
    this.#simulator = new Simulator(program);
    const base = this.#simulator.run([]);
    if (isBlocked(base)) throw internalError('a program that cannot run as it is');
    this.#base = base;
  }

  /** With nothing given up. */
  get base(): Solution {
    return { choice: [], pinned: undefined, timeline: this.#base };
  }

  // ---- segments -------------------------------------------------------------------------------

  /** Plans that keep what crosses the ends of segments, the one with the lowest peak first. */
  segmented(): Solution[] {
    const candidates = this.#acrossTurn();
    const crossing = this.#crossing();
    const made = new Float64Array(crossing.length);
    let total = 0;
    for (const { writer, bytes } of candidates) {
      made[writer] = (made[writer] as number) + bytes;
      total += bytes;
    }
    const solutions: Solution[] = [];
    const tried = new Set<string>();
    for (let i = 0; i < SEGMENT_SIZES; i++) {
      const ends = endsOf(made, crossing, total * 0.8 ** i);
      const name = ends.join();
      if (tried.has(name)) continue;
      tried.add(name);
      const solution = this.#ofSegments(candidates, ends);
      if (solution !== null) solutions.push(solution);
    }
    return solutions.sort((a, b) => a.timeline.peak - b.timeline.peak);
  }

  /** The unit at which most waits: where a step turns from forward to backward. */
  #turn(): number {
    if (this.#turnAt >= 0) return this.#turnAt;
    const { units, values } = this.#program;
    const waiting = new Float64Array(units.length + 1);
    for (const { writer, readers, bytes } of values) {
      let before = writer;
      for (const reader of readers) {
        if (before >= 0 && reader > before + 1) {
          waiting[before + 1] = (waiting[before + 1] as number) + bytes;
          waiting[reader] = (waiting[reader] as number) - bytes;
        }
        before = reader;
      }
    }
    let [sum, most, turn] = [0, 0, 0];
    for (let at = 0; at < units.length; at++) {
      sum += waiting[at] as number;
      if (sum > most) [most, turn] = [sum, at];
    }
    this.#turnAt = turn;
    return turn;
  }

  /** What is computed before the turn and wanted after it. */
  #acrossTurn(): Crossing[] {
    const turn = this.#turn();
    const crossing: Crossing[] = [];
    this.#program.values.forEach(({ writer, readers, bytes }, value) => {
      const { small, lastUse } = this.#simulator;
      if (writer < 0 || writer > turn || (lastUse[value] as number) <= turn) return;
      if (small[value] === 1 || readers.includes(turn)) return;
      crossing.push({ value, bytes, writer, forward: lastUpTo({ writer, readers }, turn) });
    });
    return crossing.sort((a, b) => a.writer - b.writer);
  }

  /** Bytes that are computed up to each unit and used behind it, up to the turn. */
  #crossing(): Float64Array {
    const turn = this.#turn();
    const crossing = new Float64Array(turn + 1);
    for (const value of this.#program.values) {
      const { writer, bytes } = value;
      if (writer < 0) continue;
      const end = lastUpTo(value, turn);
      for (let at = writer; at < end; at++) crossing[at] = (crossing[at] as number) + bytes;
    }
    return crossing;
  }

  #ofSegments(candidates: readonly Crossing[], ends: readonly number[]): Solution | null {
    const turn = this.#turn();
    const pinned = new Uint8Array(this.#program.values.length);
    this.#program.values.forEach((value, i) => {
      const last = lastUpTo(value, turn);
      if (ends.some((end) => value.writer <= end && last > end)) pinned[i] = 1;
    });
    const choice: number[] = [];
    for (const { value, forward } of candidates) {
      if (pinned[value] === 0) choice.push(value * this.#program.units.length + forward);
    }
    return this.#solve(choice, pinned, true);
  }

  // ---- search ---------------------------------------------------------------------------------

  /** Ways down: each gives plans with ever lower peaks, from nothing given up or from segments. */
  paths(): Iterable<Solution>[] {
    return [this.base, ...this.segmented().slice(0, STARTS)].map((start) => this.#search(start));
  }

  /**
   * Gives up one value after the other, each time what frees most at the peak for its time. Gives the
   * plans with a lower peak than all before.
   */
  *#search(start: Solution): Generator<Solution> {
    const limit = this.#effort + EFFORT;
    const dear = MOST_EXTRA * this.#program.units.reduce((sum, { cost }) => sum + cost, 0);
    const banned = new Set<number>();
    let current = start;
    let lowest = current.timeline.peak;
    let steps = 0;
    yield current;
    while (this.#effort < limit && steps < PATIENCE) {
      const key = this.#best(current, banned);
      if (key < 0) return;
      steps++;
      const next = this.#solve([...current.choice, key], current.pinned, true);
      if (next === null || next.timeline.peak > current.timeline.peak * TOLERANCE) {
        banned.add(key);
        continue;
      }
      if (next.timeline.extraCost > dear) return;
      current = next;
      if (current.timeline.peak >= lowest) continue;
      lowest = current.timeline.peak;
      steps = 0;
      yield current;
    }
  }

  /** What to give up next, or -1. */
  #best({ choice, timeline }: Solution, banned: ReadonlySet<number>): number {
    const { values, units } = this.#program;
    const { at: positions, value: valueOf, first, last, peakAt } = timeline;
    const around = new Surroundings(timeline, units.length, values.length);
    const chosen = new Set(choice);
    let [best, most] = [-1, 0];
    for (let instance = 0; instance < valueOf.length; instance++) {
      if ((first[instance] as number) >= peakAt || (last[instance] as number) <= peakAt) continue;
      const [before, next] = around.of(instance);
      if (before === peakAt) continue;
      const value = valueOf[instance] as number;
      const { writer, bytes } = values[value] as Value;
      if (writer < 0 || this.#simulator.small[value] === 1) continue;
      const at = positions[before] as number;
      if (at === positions[next]) continue;
      const key = value * units.length + at;
      if (banned.has(key) || chosen.has(key)) continue;
      const score = bytes / this.#costAgain(value, next, around);
      if (score > most) [best, most] = [key, score];
    }
    return best;
  }

  /** Estimated time to compute `value` again before run `now`. */
  #costAgain(value: number, now: number, around: Surroundings): number {
    const { units, values } = this.#program;
    const { lastUse, small } = this.#simulator;
    const at = around.timeline.at[now] as number;
    const seen = new Set<number>();
    const stack = [(values[value] as Value).writer];
    let cost = 1;
    for (let which = stack.pop(); which !== undefined; which = stack.pop()) {
      // What runs again in between anyway gives its other results for nothing.
      if (seen.has(which) || around.runsAgain(which, now)) continue;
      seen.add(which);
      const unit = units[which] as Unit;
      cost += unit.cost;
      if (seen.size > CHAIN_LIMIT) return cost * 4;
      for (const input of unit.reads) {
        // What is wanted later is there then, or computed again anyway.
        if ((lastUse[input] as number) > at || small[input] === 1) continue;
        const { writer } = values[input] as Value;
        if (writer >= 0 && !around.isAlive(input, now)) stack.push(writer);
      }
    }
    return cost;
  }

  /** Takes back what is not needed to stay below `limit` bytes, the dearest first. */
  pruned(solution: Solution, limit: number): Solution {
    const { units, values } = this.#program;
    const costOf = (key: number): number => {
      const { writer } = values[Math.floor(key / units.length)] as Value;
      return (units[writer] as Unit).cost;
    };
    const keys = solution.choice.toSorted((a, b) => costOf(b) - costOf(a) || a - b);
    const effort = this.#effort + EFFORT;
    let current = solution;
    for (const key of keys) {
      if (this.#effort > effort) break;
      const choice = current.choice.filter((other) => other !== key);
      const next = this.#solve(choice, current.pinned, false);
      if (next === null || next.timeline.peak > limit) continue;
      if (next.timeline.extraCost <= current.timeline.extraCost) current = next;
    }
    return current;
  }

  /** Simulates; what cannot be computed again is kept if `mend` says so, else there is no plan. */
  #solve(keys: readonly number[], pinned: Uint8Array | undefined, mend: boolean): Solution | null {
    const { units } = this.#program;
    let choice = keys;
    for (;;) {
      const timeline = this.#simulator.run(choice, pinned);
      this.#effort += isBlocked(timeline) ? units.length : timeline.unit.length;
      if (!isBlocked(timeline)) return { choice, pinned, timeline };
      if (!mend) return null;
      const without = (value: number): number[] =>
        choice.filter((key) => Math.floor(key / units.length) !== value);
      const { length } = choice;
      choice = without(timeline.blocked);
      if (choice.length === length) choice = without(timeline.wanted);
      if (choice.length === length) return null;
    }
  }
}

/** The last unit up to `end` that reads a value; the one that computes it if none does. */
function lastUpTo({ writer, readers }: Pick<Value, 'writer' | 'readers'>, end: number): number {
  return readers.findLast((reader) => reader <= end) ?? writer;
}

/**
 * Ends of segments of about `size` bytes, where little crosses from one to the next. `made`: bytes that
 * each unit computes for later; `crossing`: bytes that are needed behind it. Both end with the turn.
 */
function endsOf(made: Float64Array, crossing: Float64Array, size: number): number[] {
  const turn = made.length - 1;
  const ends: number[] = [];
  let begin = 0;
  while (begin < turn) {
    let sum = 0;
    let best = -1;
    for (let at = begin; at < turn; at++) {
      sum += made[at] as number;
      if (sum < size / 2) continue;
      if (best < 0 || (crossing[at] as number) < (crossing[best] as number)) best = at;
      if (sum > size) break;
    }
    if (best < 0 || sum < size) break;
    ends.push(best);
    begin = best + 1;
  }
  return ends;
}

/** What happens around the peak of a timeline. */
class Surroundings {
  readonly timeline: Timeline;
  /** Of each instance: the last run up to the peak that touches it, and the first one behind. */
  readonly #before: Int32Array;
  readonly #behind: Int32Array;
  /** Of each unit: the first run behind the peak that is not its first. */
  readonly #again: Int32Array;
  /** Of each value: its latest instance; of each instance: the one before of its value. */
  readonly #latest: Int32Array;
  readonly #earlier: Int32Array;

  constructor(timeline: Timeline, units: number, values: number) {
    const { unit, at, begin, touched, value, peakAt } = timeline;
    this.timeline = timeline;
    this.#before = new Int32Array(value.length).fill(-1);
    this.#behind = new Int32Array(value.length).fill(-1);
    this.#again = new Int32Array(units).fill(-1);
    this.#latest = new Int32Array(values).fill(-1);
    this.#earlier = new Int32Array(value.length).fill(-1);
    for (let run = unit.length - 1; run > peakAt; run--) {
      if (unit[run] !== at[run]) this.#again[unit[run] as number] = run;
      for (let i = begin[run] as number; i < (begin[run + 1] as number); i++) {
        this.#behind[touched[i] as number] = run;
      }
    }
    for (let run = 0; run <= peakAt; run++) {
      for (let i = begin[run] as number; i < (begin[run + 1] as number); i++) {
        this.#before[touched[i] as number] = run;
      }
    }
    for (let instance = 0; instance < value.length; instance++) {
      const of = value[instance] as number;
      this.#earlier[instance] = this.#latest[of] as number;
      this.#latest[of] = instance;
    }
  }

  of(instance: number): readonly [before: number, behind: number] {
    return [this.#before[instance] as number, this.#behind[instance] as number];
  }

  /** Whether `unit` runs again between the peak and run `now`. */
  runsAgain(unit: number, now: number): boolean {
    const run = this.#again[unit] as number;
    return run >= 0 && run <= now;
  }

  /** Whether `value` is there when run `now` begins. */
  isAlive(value: number, now: number): boolean {
    const { first, last } = this.timeline;
    let instance = this.#latest[value] as number;
    while (instance >= 0) {
      if ((first[instance] as number) < now && (last[instance] as number) >= now) return true;
      instance = this.#earlier[instance] as number;
    }
    return false;
  }
}

/** A value that waits at the turn, and the last unit before it that reads it. */
interface Crossing {
  readonly value: number;
  readonly bytes: number;
  readonly writer: number;
  readonly forward: number;
}
