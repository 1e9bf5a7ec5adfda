// A program as one WebAssembly module that needs nothing: its own memory, where everything has a fixed
// address, and a function `run` without arguments.
import { CompileError } from '../../base/errors.ts';
import {
  type BindingRole,
  bytesOfTensor,
  type ExportedInput,
  type ExportedTensor,
  type ExportRequest,
  type ResolvedExport,
} from '../../runtime/export.ts';
import { writeScalars } from '../../runtime/scalars.ts';
import { weightsBlock } from '../../runtime/weights-block.ts';
import { WORK_LIMITS } from '../../runtime/work-sharing.ts';
import { LOW_BYTES } from './addresses.ts';
import { ModuleBuilder } from './encoder.ts';
import { MAXIMUM_PAGES, renderPlan } from './program.ts';

const PAGE_BYTES = 65536;
const ALIGNMENT = 64;
const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** A tensor and where it lies in the module's memory. */
export interface PlacedTensor extends ExportedTensor {
  readonly address: number;
}

export interface StandaloneModule {
  readonly code: Uint8Array<ArrayBuffer>;
  /** The block of weights: to be written at `weightsAddress` before the first run if it is beside. */
  readonly weights: Uint8Array;
  readonly weightsAddress: number;
  /** Inputs without an address are not looked at. */
  readonly inputs: readonly (ExportedInput & {
    readonly address: number | null;
    /** Of slots that hold the number as well. */
    readonly also: readonly number[];
  })[];
  readonly outputs: readonly PlacedTensor[];
  /** Those that are not stored in another order than the model's. */
  readonly state: readonly PlacedTensor[];
  /** Addresses of the results of checks, in their order. */
  readonly checks: readonly { readonly least: number; readonly most: number }[];
  /** What is copied after a run without failed checks. */
  readonly updates: readonly {
    readonly from: number;
    readonly to: number;
    readonly bytes: number;
  }[];
  /** Words of random places: which draw, which of its words, and where it is written. */
  readonly words: readonly {
    readonly draw: number;
    readonly word: number;
    readonly address: number;
  }[];
  readonly randomAddress: number | null;
  /** Bytes of memory, weights included. */
  readonly memoryBytes: number;
}

/**
 * @param inside whether the weights are a part of the module.
 * @throws CompileError if everything together has more than 4 GiB.
 */
export function renderStandalone(
  request: ExportRequest,
  resolved: ResolvedExport,
  options: { readonly relaxed: boolean; readonly inside: boolean },
): StandaloneModule {
  const { plan } = resolved;
  const module = new ModuleBuilder();
  const rendered = renderPlan(module, plan, {
    relaxed: options.relaxed,
    limits: WORK_LIMITS,
    pool: undefined,
  });
  let end = LOW_BYTES;
  const take = (bytes: number): number => {
    const address = end;
    end += align(Math.max(1, bytes));
    return address;
  };
  const table = take(rendered.table.bytes);
  const weightsAddress = take(resolved.weightsBytes);
  const arena = take(plan.arenaBytes);
  const scratch = take(rendered.scratchBytes);
  const slotAddress = (slot: number): number => table + rendered.table.scalars + 8 * slot;
  const inputs = request.inputs.map((input) => {
    const [slot, ...more] = input.slots ?? [];
    const also = more.map(slotAddress);
    if (slot !== undefined) return { ...input, address: slotAddress(slot), also };
    const used = input.binding !== undefined;
    return { ...input, address: used ? take(bytesOfTensor(input)) : null, also };
  });
  const outputs = request.outputs.map((output, index) => {
    const role = resolved.roles[output.binding];
    return role?.kind === 'output' && role.index === index ? take(bytesOfTensor(output)) : 0;
  });
  const places = resolved.places.map((bytes) => take(bytes));
  const addressOf = (role: BindingRole | null | undefined): number => {
    if (role === null || role === undefined) return 0;
    if (role.kind === 'weight') return weightsAddress + role.offset;
    const list = {
      input: inputs.map(({ address }) => address ?? 0),
      output: outputs,
      place: places,
    };
    return list[role.kind][role.index] ?? 0;
  };
  if (end > MAXIMUM_PAGES * PAGE_BYTES) {
    throw new CompileError(`the program needs ${end} bytes, a memory has at most 4 GiB`, {
      op: 'export to WebAssembly',
    });
  }
  const start = new Uint8Array(rendered.table.bytes);
  const view = new DataView(start.buffer);
  view.setUint32(rendered.table.arena, arena, true);
  view.setUint32(rendered.table.scratch, scratch, true);
  writeScalars(view, rendered.table.scalars, plan.scalars, request.scalars);
  resolved.roles.forEach((role, i) => {
    view.setUint32(rendered.table.bindings + 4 * i, addressOf(role), true);
  });
  module.function([], [], 'run').i32(0).i32(1).i32(table).call(rendered.run);
  const weights = weightsBlock(resolved);
  const data: { address: number; bytes: Uint8Array }[] = [{ address: table, bytes: start }];
  if (options.inside && weights.length > 0) data.push({ address: weightsAddress, bytes: weights });
  module.own({ pages: Math.ceil(end / PAGE_BYTES), data });
  return {
    code: module.encode(),
    weights,
    weightsAddress,
    inputs,
    outputs: request.outputs.map((output) => {
      return { ...output, address: addressOf(resolved.roles[output.binding]) };
    }),
    state: resolved.weights.flatMap(({ tensor, offset }) =>
      tensor === null ? [] : [{ ...tensor, address: weightsAddress + offset }],
    ),
    checks: (request.checks ?? []).map(({ least, most }) => {
      return { least: addressOf(resolved.roles[least]), most: addressOf(resolved.roles[most]) };
    }),
    updates: resolved.updates.map(({ offset, place }) => ({
      from: places[place] ?? 0,
      to: weightsAddress + offset,
      bytes: resolved.places[place] ?? 0,
    })),
    words: resolved.slots.flatMap((slot, n) =>
      'draw' in slot ? [{ draw: slot.draw, word: slot.word, address: slotAddress(n) }] : [],
    ),
    randomAddress: resolved.randomState === null ? null : weightsAddress + resolved.randomState,
    memoryBytes: end,
  };
}
