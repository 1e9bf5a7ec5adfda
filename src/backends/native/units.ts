// Pieces of C that are compiled and kept each on its own, and how they share translation units.
import { createHash } from 'node:crypto';

/** Part of every key: changes when the same source must be compiled anew. */
const FORMAT = 1;
/** Source for about a tenth of a second: below, another compiler costs more than it saves. */
const GROUP_BYTES = 8 * 1024;

/** A piece of C: a kernel, or a few functions that belong together. */
export interface CUnit {
  /**
   * Types, static functions and includes, in the order in which they need each other. Units that are
   * compiled together share equal ones: one name must not have two texts.
   */
  readonly declarations: readonly string[];
  /** C that defines the functions of `exports`, and no other name. */
  readonly definition: string;
  readonly exports: readonly string[];
  /** Whether it gets a translation unit of its own: for a definition with names of its own. */
  readonly alone?: boolean;
}

/** A unit with its key, 32 hexadecimal digits: everything that decides what it compiles to. */
export interface KeyedUnit {
  readonly unit: CUnit;
  readonly key: string;
}

export function keyOf(unit: CUnit, toolchain: string): string {
  const { declarations, definition, exports } = unit;
  const facts = JSON.stringify([FORMAT, toolchain, declarations, definition, exports]);
  return createHash('sha256').update(facts).digest('hex').slice(0, 32);
}

/** The name of an exported function in a library, where many units export `kernel`. */
export function symbolOf(name: string, key: string): string {
  return `${name}_${key}`;
}

/** One translation unit. */
export function sourceOf(units: readonly KeyedUnit[]): string {
  const declarations = new Set(units.flatMap(({ unit }) => unit.declarations));
  const definitions = units.map(({ unit, key }) => {
    const define = unit.exports.map((name) => `#define ${name} ${symbolOf(name, key)}`);
    const undefine = unit.exports.map((name) => `#undef ${name}`);
    return [...define, unit.definition, ...undefine].join('\n');
  });
  return `${[...declarations, ...definitions].join('\n')}\n`;
}

/**
 * Deals units into translation units of about equal work, at most `parallel` and no small ones: a
 * compiler needs a while to start, and units that share one share their declarations.
 */
export function groupUnits(units: readonly KeyedUnit[], parallel: number): KeyedUnit[][] {
  const alone = units.filter(({ unit }) => unit.alone === true);
  const others = units.filter(({ unit }) => unit.alone !== true);
  const size = ({ unit }: KeyedUnit): number => unit.definition.length;
  const total = others.reduce((sum, unit) => sum + size(unit), 0);
  const count = Math.max(1, Math.min(parallel, Math.round(total / GROUP_BYTES), others.length));
  const groups = Array.from({ length: count }, () => ({ bytes: 0, units: [] as KeyedUnit[] }));
  // The largest first, each to the group with the least: groups end within one unit of each other.
  for (const unit of others.toSorted((a, b) => size(b) - size(a) || (a.key < b.key ? -1 : 1))) {
    const group = groups.reduce((least, each) => (each.bytes < least.bytes ? each : least));
    group.units.push(unit);
    group.bytes += size(unit);
  }
  return [...alone.map((unit) => [unit]), ...groups.map(({ units }) => units)].filter(
    (group) => group.length > 0,
  );
}
