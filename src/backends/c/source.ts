// The C source of one program for one target: its kernels, what calls them, and the three functions of
// its interface.
import { byteSize, type DType } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import { CHelpers } from '../../ir/c/helpers.ts';
import { PORTABLE, PORTABLE_PRELUDE } from '../../ir/c/dialect.ts';
import { KernelRenderer, scratchOf } from '../../ir/c/renderer.ts';
import type { Kernel } from '../../ir/kernel.ts';
import {
  blocksOfDraws,
  bytesOfTensor,
  type BindingRole,
  type ExportedLimits,
  type ExportRequest,
  type ResolvedExport,
} from '../../runtime/export.ts';
import {
  type Dispatch,
  itemsOf,
  type Location,
  type PlanItem,
  type Stride,
} from '../../runtime/plan.ts';
import { writeScalars } from '../../runtime/scalars.ts';
import {
  layoutHash,
  WEIGHTS_FIELDS,
  WEIGHTS_MAGIC,
  WEIGHTS_ORDER,
} from '../../runtime/weights-block.ts';
import { usesOf } from './kernel-uses.ts';
import { identifier, quoted, wordList, wordOf } from './names.ts';
import { type CVariant, VARIANT_FACTS } from './targets.ts';

const ALIGNMENT = 64;
const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

export interface CSource {
  readonly text: string;
  /** Static memory, without weights. */
  readonly arenaBytes: number;
}

/** What all parts of one source need to know. */
interface Context {
  readonly request: ExportRequest;
  readonly resolved: ResolvedExport;
  readonly variant: CVariant;
  /** The model's name as an identifier. */
  readonly id: string;
  /** Whether weights are compiled in. */
  readonly embedded: boolean;
}

/** @param embedded whether weights are an array that is compiled in. */
export function renderSource(
  request: ExportRequest,
  resolved: ResolvedExport,
  variant: CVariant,
  embedded: boolean,
): CSource {
  const context: Context = {
    request,
    resolved,
    variant,
    embedded,
    id: identifier(request.name),
  };
  const helpers = new CHelpers(PORTABLE);
  const functions = new Map<number, KernelFunction>();
  for (const { kernel: number } of resolved.plan.dispatches) {
    const kernel = kernelAt(resolved, number);
    if (kernel.gridSize > 0 && !functions.has(number)) {
      functions.set(number, renderKernel(number, kernel, helpers));
    }
  }
  const memory = layMemory(resolved, functions);
  const run = new RunRenderer(context, functions, memory).render();
  const parts = [
    head(context),
    PORTABLE_PRELUDE,
    checks(resolved),
    helpers.text(),
    ...[...functions.values()].map(({ text }) => text),
    staticMemory(context, memory),
    constants(resolved),
    initText(context),
    run,
    infoText(context, memory),
  ];
  return {
    text: `${parts.filter((part) => part !== '').join('\n\n')}\n`,
    arenaBytes: memory.bytes,
  };
}

function head({ request, variant, resolved, id }: Context): string {
  const { needs, flags } = VARIANT_FACTS[variant];
  return `/* ${identifier(request.name)} for ${needs}, ${resolved.target.numerics} numerics. Made by Tengen: see ${id}.h.
   Flags: -std=c99 -O2 -ffp-contract=off -fno-math-errno -fno-trapping-math${flags === '' ? '' : ` ${flags}`} */
#include "${id}.h"`;
}

function checks({ target }: ResolvedExport): string {
  const exact = `#include <float.h>
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "strict numerics need float arithmetic in float: on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif`;
  return `#ifdef __FAST_MATH__
#error "-ffast-math changes results: NaN, infinities and signed zeros count here"
#endif
${target.numerics === 'strict' ? `${exact}\n` : ''}#if !defined(__GNUC__) || defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif`;
}

// ---- kernels ----------------------------------------------------------------------------------

interface KernelFunction {
  readonly name: string;
  readonly text: string;
  /** Positions of the buffers that are passed: those that the kernel looks at. */
  readonly passed: readonly number[];
  readonly scratchBytes: number;
}

function kernelAt({ plan }: ResolvedExport, number: number): Kernel {
  const kernel = plan.kernels[number];
  if (kernel === undefined) throw internalError(`no kernel ${number}`);
  return kernel;
}

function renderKernel(number: number, kernel: Kernel, helpers: CHelpers): KernelFunction {
  const { kernel: body, used } = usesOf(kernel);
  const scratch = scratchOf(kernel);
  const name = `k${number}_${kernel.name.replaceAll(/\W+/g, '_')}`;
  const lines = new KernelRenderer(body, helpers).body('0', String(kernel.gridSize));
  const passed = kernel.buffers.flatMap((buffer, i) => (used.has(buffer) ? [i] : []));
  const parameters = passed.map((i) => {
    const buffer = kernel.buffers[i];
    return buffer === undefined ? '' : `${helpers.pointer(buffer)} b${i}`;
  });
  const usedScratch = kernel.scratch.flatMap((buffer, n) =>
    used.has(buffer) ? [{ buffer, n }] : [],
  );
  if (usedScratch.length > 0) parameters.push('unsigned char* scratch');
  const pointers = usedScratch.map(({ buffer, n }) => {
    const type = helpers.pointer(buffer);
    return `  ${type} s${n} = (${type})(scratch + ${scratch.offsets[n]});`;
  });
  const text = [`static void ${name}(${parameters.join(', ')}) {`, ...pointers, ...lines, '}'].join(
    '\n',
  );
  return { name, text, passed, scratchBytes: usedScratch.length > 0 ? scratch.bytes : 0 };
}

// ---- memory -----------------------------------------------------------------------------------

interface Memory {
  readonly scratch: number;
  /** Where each place of its own stands. */
  readonly places: readonly number[];
  readonly bytes: number;
}

function layMemory(
  { plan, places: list }: ResolvedExport,
  functions: ReadonlyMap<number, KernelFunction>,
): Memory {
  const scratch = align(plan.arenaBytes);
  let bytes = scratch + Math.max(0, ...[...functions.values()].map((each) => each.scratchBytes));
  const places = list.map((length) => {
    const at = bytes;
    bytes += align(Math.max(1, length));
    return at;
  });
  return { scratch, places, bytes };
}

function staticMemory({ resolved, embedded, id }: Context, { bytes }: Memory): string {
  const lines: string[] = [];
  if (bytes > 0) {
    lines.push(
      '#if defined(__GNUC__)',
      `#define ALIGNED __attribute__((aligned(${ALIGNMENT})))`,
      '#else',
      '#define ALIGNED',
      '#endif',
      '/* Everything between inputs and outputs. */',
      `static union { unsigned char bytes[${bytes}]; double number; uint64_t word; } arena ALIGNED;`,
    );
  }
  if (resolved.weights.length > 0) {
    const constant = resolved.stateful ? '' : 'const ';
    if (embedded) lines.push(`extern ${constant}uint64_t ${id}_weights_block[];`);
    lines.push(`static ${constant}unsigned char* weights;`);
  }
  return lines.join('\n');
}

/** Numbers that are the same in every run, as the plan's slots hold them. */
function constants({ plan, slots }: ResolvedExport): string {
  return slots
    .flatMap((slot, n) => {
      if ('input' in slot || !namesSlot(plan.dispatches, n)) return [];
      if ('draw' in slot) return [`static uint32_t number${n};`];
      const dtype = plan.scalars[n] as DType;
      const bytes = new Uint8Array(8);
      writeScalars(new DataView(bytes.buffer), 0, [dtype], Float64Array.of(slot.value));
      const word = wordOf(dtype);
      const list = wordList(bytes.subarray(0, byteSize(dtype)), byteSize(dtype));
      const value = list.replaceAll(/[{}\s]/g, '');
      return [`static const ${word} number${n} = ${value}; /* ${slot.value} */`];
    })
    .join('\n');
}

function namesSlot(dispatches: readonly Dispatch[], slot: number): boolean {
  return dispatches.some(({ arguments: list }) =>
    list.some((location) => location.space === 'scalar' && location.slot === slot),
  );
}

// ---- init -------------------------------------------------------------------------------------

function initText(context: Context): string {
  const { id, resolved, embedded } = context;
  const { stateful, weightsBytes } = resolved;
  const constant = stateful ? '' : 'const ';
  const upper = id.toUpperCase();
  const open = `int ${id}_init(${constant}void* block, size_t bytes) {`;
  if (resolved.weights.length === 0) {
    return `${open}
  (void)block;
  return bytes == 0 ? ${upper}_OK : ${upper}_WRONG_WEIGHTS;
}`;
  }
  const own = embedded
    ? `  if (block == NULL) { block = ${id}_weights_block; bytes = ${weightsBytes}u; }\n`
    : '';
  const { order, layout } = WEIGHTS_FIELDS;
  return `${open}
  uint32_t order, layout;
${own}  weights = NULL;
  if (block == NULL || bytes < ${weightsBytes}u || memcmp(block, "${WEIGHTS_MAGIC}", 8) != 0) return ${upper}_WRONG_WEIGHTS;
  memcpy(&order, (const unsigned char*)block + ${order}, 4);
  memcpy(&layout, (const unsigned char*)block + ${layout}, 4);
  if (order != 0x${WEIGHTS_ORDER.toString(16)}u || layout != 0x${layoutHash(resolved).toString(16)}u) return ${upper}_WRONG_WEIGHTS;
  weights = (${constant}unsigned char*)block;
  return ${upper}_OK;
}`;
}

// ---- run --------------------------------------------------------------------------------------

class RunRenderer {
  readonly #context: Context;
  readonly #functions: ReadonlyMap<number, KernelFunction>;
  readonly #memory: Memory;
  readonly #lines: string[] = [];
  #depth = 0;

  constructor(context: Context, functions: ReadonlyMap<number, KernelFunction>, memory: Memory) {
    this.#context = context;
    this.#functions = functions;
    this.#memory = memory;
  }

  render(): string {
    const { id, request, resolved } = this.#context;
    const upper = id.toUpperCase();
    this.#draw();
    const items = itemsOf(resolved.plan);
    this.#items(items, '  ');
    for (const { output, from } of resolved.copies) {
      const bytes = bytesOfTensor(request.outputs[output] ?? internal('output'));
      if (bytes > 0)
        this.#lines.push(`  memcpy(outputs[${output}], ${this.#pointer(from)}, ${bytes}u);`);
    }
    this.#checks(upper);
    for (const { offset, place } of resolved.updates) {
      const bytes = resolved.places[place] ?? internal('place');
      const from = this.#pointer({ kind: 'place', index: place });
      if (bytes > 0) this.#lines.push(`  memcpy(weights + ${offset}, ${from}, ${bytes}u);`);
    }
    this.#advance();
    const counters = Array.from({ length: this.#depth }, (_, depth) => `t${depth} = 0`);
    const before = [
      `int ${id}_run(const void* const* inputs, void* const* outputs) {`,
      ...(counters.length > 0 ? [`  long ${counters.join(', ')};`] : []),
      ...(resolved.weights.length > 0
        ? [`  if (weights == NULL) return ${upper}_NO_WEIGHTS;`]
        : []),
    ];
    const ranges = this.#ranges(upper);
    const text = [...ranges, ...this.#lines].join();
    for (const name of ['inputs', 'outputs']) {
      if (!text.includes(`${name}[`)) before.push(`  (void)${name};`);
    }
    return [...before, ...ranges, ...this.#lines, `  return ${upper}_OK;`, '}'].join('\n');
  }

  #items(items: readonly PlanItem[], indent: string): void {
    for (const item of items) {
      if (!('loop' in item)) {
        this.#dispatch(item, indent);
        continue;
      }
      const { depth, trips, condition } = item.loop;
      this.#depth = Math.max(this.#depth, depth + 1);
      const counter = `t${depth}`;
      // Behind the loop the counter is how often it ran: later locations may move with it.
      const limit = trips < 0 ? '' : ` ${counter} < ${trips}`;
      this.#lines.push(`${indent}for (${counter} = 0;${limit || ' '}; ${counter}++) {`);
      if (condition !== null) {
        const at = this.#address(condition.location);
        const stop = condition.when ? '==' : '!=';
        this.#lines.push(`${indent}  if (*(const u8_mem*)(${at}) ${stop} 0) break;`);
      }
      this.#items(item.items, `${indent}  `);
      this.#lines.push(`${indent}}`);
    }
  }

  #dispatch({ kernel: number, arguments: list }: Dispatch, indent: string): void {
    const kernel = this.#functions.get(number);
    if (kernel === undefined) return;
    const { buffers } = kernelAt(this.#context.resolved, number);
    const values = kernel.passed.map((i) => {
      const { dtype, access } = buffers[i] ?? internal('buffer');
      const type = `${access === 'read' ? 'const ' : ''}${PORTABLE.stored[dtype]}*`;
      const location = list[i] ?? internal('argument');
      return `(${type})(${this.#address(location)})`;
    });
    if (kernel.scratchBytes > 0) values.push(`arena.bytes + ${this.#memory.scratch}`);
    this.#lines.push(`${indent}${kernel.name}(${values.join(', ')});`);
  }

  #address(location: Location): string {
    switch (location.space) {
      case 'arena':
        return `arena.bytes + ${location.offset}${moves(location.strides)}`;
      case 'binding': {
        const role = this.#context.resolved.roles[location.index];
        const pointer = this.#pointer(role ?? internal(`binding ${location.index}`));
        const { offset = 0, strides = [] } = location;
        if (offset === 0 && strides.length === 0) return pointer;
        const bytes =
          role?.kind === 'input'
            ? `(const unsigned char*)${pointer}`
            : role?.kind === 'output'
              ? `(unsigned char*)${pointer}`
              : pointer;
        return `${bytes} + ${offset}${moves(strides)}`;
      }
      case 'scalar': {
        const slot = this.#context.resolved.slots[location.slot] ?? internal('slot');
        return 'input' in slot ? `inputs[${slot.input}]` : `&number${location.slot}`;
      }
      default:
        location satisfies never;
        throw internalError('unknown location');
    }
  }

  #pointer(role: BindingRole): string {
    switch (role.kind) {
      case 'input':
        return `inputs[${role.index}]`;
      case 'output':
        return `outputs[${role.index}]`;
      case 'place':
        return `arena.bytes + ${this.#memory.places[role.index]}`;
      case 'weight':
        return `weights + ${role.offset}`;
      default:
        role satisfies never;
        throw internalError('unknown role');
    }
  }

  /** The words that this run's random numbers are made of. */
  #draw(): void {
    const { request, resolved } = this.#context;
    const { randomState, slots, plan } = resolved;
    if (randomState === null) return;
    let blocks = 0;
    const starts = blocksOfDraws(request).map((taken) => {
      const start = blocks;
      blocks += taken;
      return start;
    });
    const state = `((u32_mem*)(weights + ${randomState}))`;
    slots.forEach((slot, n) => {
      if (!('draw' in slot) || !namesSlot(plan.dispatches, n)) return;
      const start = starts[slot.draw] ?? internal('draw');
      const block = `(((uint64_t)${state}[3] << 32 | ${state}[2]) + ${start}u)`;
      const words = [
        `${state}[0]`,
        `${state}[1]`,
        `(uint32_t)${block}`,
        `(uint32_t)(${block} >> 32)`,
      ];
      this.#lines.push(`  number${n} = ${words[slot.word] ?? internal('word')};`);
    });
  }

  /** The next run draws others. */
  #advance(): void {
    const { request, resolved } = this.#context;
    if (resolved.randomState === null) return;
    const blocks = blocksOfDraws(request).reduce((sum, taken) => sum + taken, 0);
    this.#lines.push(
      '  {',
      `    u32_mem* state = (u32_mem*)(weights + ${resolved.randomState});`,
      `    const uint64_t block = ((uint64_t)state[3] << 32 | state[2]) + ${blocks}u;`,
      '    state[2] = (uint32_t)block;',
      '    state[3] = (uint32_t)(block >> 32);',
      '  }',
    );
  }

  /** Inputs whose elements have limits. */
  #ranges(upper: string): string[] {
    return this.#context.request.inputs.flatMap((input, i) => {
      if (input.limits === undefined) return [];
      const size = byteSize(input.dtype);
      const count = bytesOfTensor(input) / size;
      const wrong = outside('p[i]', 'p[i]', input.dtype, input.limits);
      if (count === 0 || wrong === null) return [];
      const type = `const ${PORTABLE.stored[input.dtype]}*`;
      const { except: value } = input.limits;
      const except = value === undefined ? '' : `(double)p[i] != ${limit(value)} && `;
      return [
        '  {',
        `    ${type} p = (${type})inputs[${i}];`,
        '    size_t i;',
        `    for (i = 0; i < ${count}u; i++) {`,
        `      if (${except}${wrong}) return ${upper}_OUT_OF_RANGE;`,
        '    }',
        '  }',
      ];
    });
  }

  #checks(upper: string): void {
    this.#context.request.checks?.forEach(({ least, most, dtype, limits, nothing }, n) => {
      const value = (binding: number): string => {
        const role = this.#context.resolved.roles[binding] ?? internal('check');
        return `*(const ${PORTABLE.stored[dtype]}*)(${this.#pointer(role)})`;
      };
      const wrong = outside(value(least), value(most), dtype, limits);
      if (wrong === null) return;
      const some =
        nothing === undefined
          ? ''
          : `(${value(least)} != ${limit(nothing[0])} || ${value(most)} != ${limit(nothing[1])}) && `;
      this.#lines.push(`  if (${some}${wrong}) return ${upper}_OUT_OF_RANGE; /* check ${n} */`);
    });
  }
}

function internal(what: string): never {
  throw internalError(`export: no ${what}`);
}

function moves(strides: readonly Stride[] = []): string {
  return strides
    .map(({ depth, bytes, turn }) => {
      const at =
        turn === undefined ? `t${depth}` : turn === 0 ? `(t${depth} & 1)` : `((t${depth} + 1) & 1)`;
      return ` + ${at} * ${bytes < 0 ? `(${bytes})` : bytes}L`;
    })
    .join('');
}

/** A limit as a double. */
function limit(value: number): string {
  if (!Number.isFinite(value)) return `${value < 0 ? '-' : ''}(double)INFINITY`;
  const digits = String(value);
  return /[.e]/.test(digits) ? digits : `${digits}.0`;
}

/**
 * Whether `low` is too small or `high` too large, or one of them no number at all; null if they cannot
 * be. For one value both are the same.
 */
function outside(low: string, high: string, dtype: DType, limits: ExportedLimits): string | null {
  if (dtype === 'float16' || dtype === 'bfloat16') throw internalError(`limits of ${dtype}`);
  const { least, above, below } = limits;
  const wanted = [
    ...(least === undefined ? [] : [`(double)${low} >= ${limit(least)}`]),
    ...(above === undefined ? [] : [`(double)${low} > ${limit(above)}`]),
    ...(below === undefined ? [] : [`(double)${high} < ${limit(below)}`]),
  ];
  return wanted.length === 0 ? null : `!(${wanted.join(' && ')})`;
}

// ---- info -------------------------------------------------------------------------------------

function infoText({ id, request, resolved, variant }: Context, memory: Memory): string {
  const table = (name: string, rows: readonly string[]): string =>
    rows.length === 0
      ? ''
      : `static const ${id}_tensor ${name}_table[] = {\n${rows.map((row) => `  ${row}`).join(',\n')}\n};\n`;
  const row = (
    { name, dtype, shape }: { name: string; dtype: DType; shape: readonly number[] },
    offset: number,
  ): string => {
    const sizes = shape.length === 0 ? '0' : shape.join(', ');
    const bytes = bytesOfTensor({ shape, dtype });
    return `{ ${quoted(name)}, "${dtype}", ${shape.length}, { ${sizes} }, ${bytes}u, ${offset}u }`;
  };
  const named = resolved.weights.flatMap(({ tensor, offset }) =>
    tensor === null ? [] : [row(tensor, offset)],
  );
  const inputs = request.inputs.map((tensor) => row(tensor, 0));
  const outputs = request.outputs.map((tensor) => row(tensor, 0));
  const pointer = (name: string, rows: readonly string[]): string =>
    rows.length === 0 ? 'NULL' : `${name}_table`;
  return `${table('input', inputs)}${table('output', outputs)}${table('weight', named)}
const ${id}_model* ${id}_info(void) {
  static const ${id}_model model = {
    "${variant}", "${resolved.target.numerics}",
    ${inputs.length}, ${pointer('input', inputs)},
    ${outputs.length}, ${pointer('output', outputs)},
    ${named.length}, ${pointer('weight', named)},
    ${resolved.weightsBytes}u, ${memory.bytes}u
  };
  return &model;
}`;
}
