// A program's items as a timeline has them run: what runs again is the same kernel on memory of its own.
import { Node } from '../../graph/node.ts';
import { isLoop, type Item } from '../items.ts';
import type { Memory, Place } from '../lower/kernel-builder.ts';
import { instancesOf, type Timeline } from './timeline.ts';
import {
  type Fixed,
  type Key,
  ownerOf,
  placeOf,
  type Unit,
  type Units,
  type Value,
} from './units.ts';

export function itemsOf(program: Units, timeline: Timeline, where: Fixed): readonly Item[] {
  const seen = new Set<number>();
  const keys = Array.from(timeline.value, (value): Key => {
    const { key } = program.values[value] as Value;
    if (seen.has(value)) return again(key);
    seen.add(value);
    return key;
  });
  return Array.from(timeline.unit).flatMap((which, run) => {
    const unit = program.units[which] as Unit;
    const isAgain = which !== timeline.at[run];
    const instances = instancesOf(timeline, run);
    const moved = new Map<Key | number, Key>();
    [...unit.reads, ...unit.writes].forEach((value, i) => {
      const { key } = program.values[value] as Value;
      const to = keys[instances[i] as number] as Key;
      if (to !== key) moved.set(key, to);
    });
    if (!isAgain && moved.size === 0) return unit.items;
    const remapping = new Remapping(program, where, moved, isAgain);
    return unit.items.map((item) => remapping.item(item));
  });
}

/** A key of its own for the same kind of value. */
function again(key: Key): Key {
  if (!('shape' in key)) return { ...key };
  return new Node(key.op, [], key.attrs, key.shape, key.dtype, false, key.device);
}

/** One run of a unit with other places than in the program. */
class Remapping {
  readonly #program: Units;
  readonly #where: Fixed;
  /** By what was there before: what is there now. Grows by what only this run needs. */
  readonly #moved: Map<Key | number, Key>;
  readonly #isAgain: boolean;

  constructor(program: Units, where: Fixed, moved: Map<Key | number, Key>, isAgain: boolean) {
    this.#program = program;
    this.#where = where;
    this.#moved = moved;
    this.#isAgain = isAgain;
  }

  item(item: Item): Item {
    if (isLoop(item)) {
      const { condition } = item;
      return {
        ...item,
        items: item.items.map((inner) => this.item(inner)),
        condition:
          condition === null
            ? null
            : { ...condition, memory: this.#memory(condition.memory, false) },
      };
    }
    const { explanation, stage } = item;
    const { kernel } = stage;
    const memory = stage.memory.map((place, i) =>
      this.#memory(place, kernel.buffers[i]?.access !== 'read'),
    );
    return {
      ...item,
      stage: { kernel, memory },
      explanation: this.#isAgain
        ? { ...explanation, schedule: `${explanation.schedule}, again`, reasons: [] }
        : explanation,
    };
  }

  #memory(memory: Memory, written: boolean): Memory {
    const key = this.#keyOf(placeOf(memory), written);
    if (key === null) return memory;
    const to: Place =
      'shape' in key ? { kind: 'value', node: key } : { kind: 'scratch', scratch: key };
    return memory.kind === 'moving' ? { ...memory, of: to } : to;
  }

  /** What stands for a place in this run; null if the place itself does. */
  #keyOf(place: Place, written: boolean): Key | null {
    const owner = ownerOf(place, this.#where);
    if (owner === null) return null;
    if (typeof owner === 'number') {
      // Results are there already: what computes them again writes elsewhere.
      const elsewhere = written && this.#isAgain && place.kind === 'value';
      return elsewhere ? this.#ownOf(owner, place.node) : null;
    }
    const isInner = this.#isAgain && !this.#program.numberOf.has(owner);
    return isInner ? this.#ownOf(owner, owner) : (this.#moved.get(owner) ?? null);
  }

  #ownOf(owner: Key | number, like: Key): Key {
    const own = this.#moved.get(owner) ?? again(like);
    this.#moved.set(owner, own);
    return own;
  }
}
