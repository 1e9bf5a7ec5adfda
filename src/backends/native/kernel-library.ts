// The compiled kernels of this process: each is known by its text, so that plans share them, and what
// is missing is compiled together, in as many translation units as there are cores.
import { createHash } from 'node:crypto';
import { internalError } from '../../base/errors.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { CHelpers } from './helpers.ts';
import { renderKernelC } from './renderer.ts';

/** Where a unit's functions are once it is compiled and loaded. */
export interface LoadedUnit {
  address(symbol: string): number;
}

export interface LoadedKernels {
  /** Of each kernel's function, in order. */
  readonly addresses: readonly number[];
  /** Scratch that a thread needs for any of them. */
  readonly scratchBytes: number;
  /** How many of them no plan of this process had. */
  readonly compiled: number;
}

/** Text below which another unit costs more (a compiler's start) than it saves. */
const UNIT_CHARACTERS = 6000;
/** Stands for a kernel's name until its text is known. */
const PLACEHOLDER = 'tengen_kernel';

export class KernelLibrary {
  readonly #compile: (units: readonly string[]) => readonly LoadedUnit[];
  readonly #parallelUnits: number;
  readonly #addresses = new Map<string, number>();

  constructor(compile: (units: readonly string[]) => readonly LoadedUnit[], parallelUnits: number) {
    this.#compile = compile;
    this.#parallelUnits = parallelUnits;
  }

  /** @throws CompileError with what the compiler said. */
  load(kernels: readonly Kernel[]): LoadedKernels {
    let scratchBytes = 0;
    const missing = new Map<string, Kernel>();
    const sizes = new Map<string, number>();
    const names = kernels.map((kernel) => {
      // Rendered alone: a kernel's name depends on nothing else that is compiled with it.
      const helpers = new CHelpers();
      const rendered = renderKernelC(kernel, PLACEHOLDER, helpers);
      scratchBytes = Math.max(scratchBytes, rendered.scratchBytes);
      const hash = createHash('sha256').update(helpers.text()).update(rendered.source);
      const name = `k_${hash.digest('hex').slice(0, 32)}`;
      if (!this.#addresses.has(name)) {
        missing.set(name, kernel);
        sizes.set(name, rendered.source.length);
      }
      return name;
    });
    if (missing.size > 0) this.#load(missing, sizes);
    const addresses = names.map((name) => {
      const address = this.#addresses.get(name);
      if (address === undefined) throw internalError(`kernel ${name} was not loaded`);
      return address;
    });
    return { addresses, scratchBytes, compiled: missing.size };
  }

  #load(missing: ReadonlyMap<string, Kernel>, sizes: ReadonlyMap<string, number>): void {
    const parts = distribute(sizes, this.#parallelUnits);
    const units = parts.map((names) => {
      const helpers = new CHelpers();
      const functions = names.map((name) => {
        return renderKernelC(missing.get(name) as Kernel, name, helpers).source;
      });
      return `${[helpers.text(), ...functions].join('\n\n')}\n`;
    });
    this.#compile(units).forEach((unit, i) => {
      for (const name of parts[i] ?? []) this.#addresses.set(name, unit.address(name));
    });
  }
}

/** Deals names out, the largest first, each to the part that has least so far. */
function distribute(sizes: ReadonlyMap<string, number>, most: number): readonly string[][] {
  let total = 0;
  for (const size of sizes.values()) total += size;
  const count = Math.max(1, Math.min(most, Math.floor(total / UNIT_CHARACTERS)));
  const parts = Array.from({ length: count }, () => ({ names: [] as string[], size: 0 }));
  for (const [name, size] of [...sizes].sort((a, b) => b[1] - a[1])) {
    const least = parts.reduce((best, part) => (part.size < best.size ? part : best));
    least.names.push(name);
    least.size += size;
  }
  return parts.map(({ names }) => names);
}
