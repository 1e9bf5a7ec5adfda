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
import { MAXIMUM_PAGES, type RenderedPlan, renderPlan } from './program.ts';

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
}

/** Addresses of everything in the module's memory. */
interface Layout {
  readonly table: number;
  readonly weights: number;
  readonly arena: number;
  readonly scratch: number;
  readonly inputs: StandaloneModule['inputs'];
  /** Of outputs that are no binding of something else; else 0. */
  readonly outputs: readonly number[];
  readonly places: readonly number[];
  readonly end: number;
  slot(slot: number): number;
}

/** @throws CompileError if everything together has more than 4 GiB. */
function layOut(
  request: ExportRequest,
  { plan, roles, places, weightsBytes }: ResolvedExport,
  { table, scratchBytes }: RenderedPlan,
): Layout {
  let end = LOW_BYTES;
  const take = (bytes: number): number => {
    const address = end;
    end += align(Math.max(1, bytes));
    return address;
  };
  const own = {
    table: take(table.bytes),
    weights: take(weightsBytes),
    arena: take(plan.arenaBytes),
    scratch: take(scratchBytes),
  };
  const slot = (number: number): number => own.table + table.scalars + 8 * number;
  const inputs = request.inputs.map((input) => {
    const [first, ...more] = input.slots ?? [];
    const also = more.map(slot);
    if (first !== undefined) return { ...input, address: slot(first), also };
    const used = input.binding !== undefined;
    return { ...input, address: used ? take(bytesOfTensor(input)) : null, also };
  });
  const outputs = request.outputs.map((output, index) => {
    const role = roles[output.binding];
    return role?.kind === 'output' && role.index === index ? take(bytesOfTensor(output)) : 0;
  });
  const placed = places.map(take);
  if (end > MAXIMUM_PAGES * PAGE_BYTES) {
    throw new CompileError(`the program needs ${end} bytes, a memory has at most 4 GiB`, {
      op: 'export to WebAssembly',
    });
  }
  return { ...own, inputs, outputs, places: placed, end, slot };
}

function addressOf(layout: Layout, role: BindingRole | null | undefined): number {
  switch (role?.kind) {
    case 'input':
      return layout.inputs[role.index]?.address ?? 0;
    case 'output':
      return layout.outputs[role.index] ?? 0;
    case 'place':
      return layout.places[role.index] ?? 0;
    case 'weight':
      return layout.weights + role.offset;
    case undefined:
      return 0;
    default:
      role satisfies never;
      return 0;
  }
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
  const layout = layOut(request, resolved, rendered);
  const bindingAddress = (binding: number): number => addressOf(layout, resolved.roles[binding]);
  const start = new Uint8Array(rendered.table.bytes);
  const view = new DataView(start.buffer);
  view.setUint32(rendered.table.arena, layout.arena, true);
  view.setUint32(rendered.table.scratch, layout.scratch, true);
  writeScalars(view, rendered.table.scalars, plan.scalars, request.scalars);
  resolved.roles.forEach((role, i) => {
    view.setUint32(rendered.table.bindings + 4 * i, addressOf(layout, role), true);
  });
  module.function([], [], 'run').i32(0).i32(1).i32(layout.table).call(rendered.run);
  const weights = weightsBlock(resolved);
  const data: { address: number; bytes: Uint8Array }[] = [{ address: layout.table, bytes: start }];
  if (options.inside && weights.length > 0) data.push({ address: layout.weights, bytes: weights });
  module.own({ pages: Math.ceil(layout.end / PAGE_BYTES), data });
  return {
    code: module.encode(),
    weights,
    weightsAddress: layout.weights,
    inputs: layout.inputs,
    outputs: request.outputs.map((output) => {
      return { ...output, address: bindingAddress(output.binding) };
    }),
    state: resolved.weights.flatMap(({ tensor, offset }) =>
      tensor === null ? [] : [{ ...tensor, address: layout.weights + offset }],
    ),
    checks: (request.checks ?? []).map(({ least, most }) => {
      return { least: bindingAddress(least), most: bindingAddress(most) };
    }),
    updates: resolved.updates.map(({ offset, place }) => ({
      from: layout.places[place] ?? 0,
      to: layout.weights + offset,
      bytes: resolved.places[place] ?? 0,
    })),
    words: resolved.slots.flatMap((slot, n) =>
      'draw' in slot ? [{ draw: slot.draw, word: slot.word, address: layout.slot(n) }] : [],
    ),
    randomAddress: resolved.randomState === null ? null : layout.weights + resolved.randomState,
  };
}
