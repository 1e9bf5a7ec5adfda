// An order of units that lets go of memory early: what frees more than it makes runs as soon as it can.
// Gradients of filters that are folded into updates, above all, which the program asks for last.
import type { Unit, Units, Value } from './units.ts';

/** For each unit, units that must have run before. */
function predecessors({ units, values }: Units): Set<number>[] {
  const before = units.map(() => new Set<number>());
  const edge = (first: number, second: number): void => {
    if (first !== second) before[second]?.add(first);
  };
  for (const { writer, readers } of values) {
    if (writer >= 0) for (const reader of readers) edge(writer, reader);
    // Several writers, or one that is not the first: as they stand.
    else readers.forEach((unit, i) => i > 0 && edge(readers[i - 1] as number, unit));
  }
  const readersOf = new Map<number, number[]>();
  const writerOf = new Map<number, number>();
  units.forEach(({ sources, targets }, i) => {
    for (const binding of sources) {
      const writer = writerOf.get(binding);
      if (writer !== undefined) edge(writer, i);
      const list = readersOf.get(binding);
      if (list === undefined) readersOf.set(binding, [i]);
      else list.push(i);
    }
    for (const binding of targets) {
      for (const reader of readersOf.get(binding) ?? []) edge(reader, i);
      const writer = writerOf.get(binding);
      if (writer !== undefined) edge(writer, i);
      writerOf.set(binding, i);
      readersOf.delete(binding);
    }
  });
  return before;
}

/** Numbers of the units in the new order. */
export function orderForMemory(program: Units): number[] {
  const { units, values } = program;
  const before = predecessors(program);
  const waiting = before.map(({ size }) => size);
  const after = units.map((): number[] => []);
  before.forEach((set, unit) => set.forEach((first) => after[first]?.push(unit)));
  const left = values.map(({ readers }) => readers.length);
  const done = new Uint8Array(units.length);
  const ready = new Set<number>();
  waiting.forEach((count, unit) => count === 0 && ready.add(unit));
  const order: number[] = [];
  const run = (which: number): void => {
    done[which] = 1;
    ready.delete(which);
    order.push(which);
    for (const value of (units[which] as Unit).reads) left[value] = (left[value] as number) - 1;
    for (const next of after[which] as number[]) {
      waiting[next] = (waiting[next] as number) - 1;
      if (waiting[next] === 0) ready.add(next);
    }
  };
  /** Bytes alive less after the unit than before it. */
  const freed = (which: number): number => {
    const { reads, writes } = units[which] as Unit;
    let bytes = 0;
    for (const value of reads) {
      if (left[value] === 1) bytes += (values[value] as Value).bytes;
    }
    for (const value of writes) bytes -= (values[value] as Value).bytes;
    return bytes;
  };
  for (let next = 0; next < units.length; next++) {
    while (done[next] === 0) {
      let best = -1;
      let most = 0;
      for (const unit of ready) {
        const bytes = freed(unit);
        if (bytes > most || (bytes === most && best > unit)) [best, most] = [unit, bytes];
      }
      run(best < 0 ? next : best);
    }
  }
  return order;
}
