// Kernels as C functions that threads call with a range of the grid, for gcc and clang.
import { GNU, type CDialect } from '../../ir/c/dialect.ts';
import { CHelpers } from '../../ir/c/helpers.ts';
import { KernelRenderer, scratchOf } from '../../ir/c/renderer.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { PAIRS_SOURCE } from './pairs.ts';
import type { CUnit } from './units.ts';

/**
 * Flags that the rendered code needs to mean what the IR says: wrapping integers, buffers that may
 * share memory, and no multiply-add where none is written. The last two let the lane loops of sqrt,
 * floor and the like become instructions.
 */
export const C_FLAGS: readonly string[] = [
  '-std=gnu11',
  '-O2',
  '-fwrapv',
  '-fno-strict-aliasing',
  '-ffp-contract=off',
  '-fno-math-errno',
  '-fno-trapping-math',
  '-Wno-psabi',
];

const DIALECT: CDialect = { ...GNU, pairs: PAIRS_SOURCE };

export interface RenderedC {
  readonly source: string;
  /**
   * Bytes of scratch that a thread needs for any of the kernels, 64-byte aligned. Its address goes
   * behind a kernel's last argument: `buffers[kernel.buffers.length]`.
   */
  readonly scratchBytes: number;
}

/**
 * One translation unit with a function `void kernel_<n>(void** buffers, long begin, long end)` for
 * each prepared kernel, which runs the grid items from `begin` up to `end`.
 *
 * @throws CompileError for kernels of workgroups, which are a GPU's.
 */
export function renderC(kernels: readonly Kernel[]): RenderedC {
  const helpers = new CHelpers(DIALECT);
  let scratchBytes = 0;
  const functions = kernels.map((kernel, n) => {
    scratchBytes = Math.max(scratchBytes, scratchOf(kernel).bytes);
    return renderFunction(`kernel_${n}`, kernel, helpers);
  });
  const source = [helpers.text(), ...functions].filter((part) => part !== '').join('\n\n');
  return { source: `${source}\n`, scratchBytes };
}

export interface RenderedUnit {
  /** Exports `kernel`, with the arguments that `renderC` describes. */
  readonly unit: CUnit;
  readonly scratchBytes: number;
}

/**
 * One kernel as a unit of its own: equal kernels of different plans are equal text, and compiled once.
 *
 * @throws CompileError for kernels of workgroups, which are a GPU's.
 */
export function renderUnit(kernel: Kernel): RenderedUnit {
  const helpers = new CHelpers(DIALECT);
  const definition = renderFunction('kernel', kernel, helpers);
  const unit = { declarations: helpers.parts(), definition, exports: ['kernel'] };
  return { unit, scratchBytes: scratchOf(kernel).bytes };
}

function renderFunction(name: string, kernel: Kernel, helpers: CHelpers): string {
  const { buffers } = kernel;
  const head = [
    `void ${name}(void** buffers, long begin, long end) {`,
    ...buffers.map((buffer, n) => `  ${helpers.pointer(buffer)} b${n} = buffers[${n}];`),
    ...kernel.scratch.map((buffer, n) => {
      const type = helpers.pointer(buffer);
      const offset = scratchOf(kernel).offsets[n];
      return `  ${type} s${n} = (${type})((char*)buffers[${buffers.length}] + ${offset});`;
    }),
  ];
  const renderer = new KernelRenderer(kernel, helpers);
  return [...head, ...renderer.body('begin', 'end'), '}'].join('\n');
}
