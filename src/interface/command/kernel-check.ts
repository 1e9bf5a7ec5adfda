// Compares the kernels of a program with the interpreter's, one after the other, each on what the
// interpreter computed before: so the first that differs is the one that is wrong.
import { byteSize } from '../../base/dtype.ts';
import type { Device } from '../../runtime/device.ts';
import type { Dispatch, Location, Loop, Plan } from '../../runtime/plan.ts';
import { factsOf } from '../../runtime/kernel-work.ts';
import { writeProgram } from '../../runtime/program-writer.ts';
import { readProgram, type RunnableProgram } from '../../runtime/stored-program.ts';
import type { CompiledProgram } from '../../compile/program.ts';
import { differenceOfBytes } from './node-check.ts';
import { PlanMemory, type Start } from './plan-memory.ts';

export interface KernelDifference {
  readonly kernel: string;
  /** The operations of the graph that run in it. */
  readonly ops: readonly string[];
  readonly shape: readonly number[];
  readonly difference: number;
}

export interface KernelReport {
  readonly compared: number;
  readonly first: KernelDifference | null;
  /** Whether the program is the one that the graph gives today, kernel for kernel. */
  readonly sameProgram: boolean;
}

/** What runs as one: a kernel, or an outermost loop with all in it. */
interface Piece {
  readonly plan: Plan;
  readonly first: number;
  readonly end: number;
}

/**
 * Runs `program` on `device` beside `expected`, what the graph compiles to for the same target, on the
 * interpreter.
 */
export async function compareKernels(
  program: RunnableProgram,
  expected: CompiledProgram,
  start: Start,
  device: Device,
  interpreter: Device,
  { strict, tolerance }: { readonly strict: boolean; readonly tolerance: number },
): Promise<KernelReport> {
  // Files say some things more fully than the compiler.
  const sameProgram =
    formOf(program) === formOf(expected) ||
    formOf(program) === formOf(readProgram(writeProgram(expected)));
  // Of a program by another version the kernels are compared with themselves.
  const reference: RunnableProgram = sameProgram ? expected : program;
  const sizes = program.plan.bindings.map(({ bytes }) => bytes);
  let compared = 0;
  let state = start.leaves.slice();
  for (const part of ['prepared', 'plan'] as const) {
    const [own, other] = [planOf(program, part), planOf(reference, part)];
    if (own === null || other === null) continue;
    const arena = Math.max(own.arenaBytes, 8);
    const lab = [device, interpreter].map((each) => {
      return new PlanMemory(each, [...sizes, arena], state);
    }) as [PlanMemory, PlanMemory];
    try {
      const [pieces, others] = [piecesOf(own), piecesOf(other)];
      for (const [i, piece] of pieces.entries()) {
        const against = others[i] as Piece;
        const difference = await comparePiece(piece, against, lab, start.scalars, strict);
        compared += piece.end - piece.first;
        if (difference <= (strict ? 0 : tolerance)) continue;
        const kernels = part === 'plan' ? expected.kernels.slice(piece.first, piece.end) : [];
        const explained = sameProgram ? kernels : [];
        const first: KernelDifference = {
          kernel: piece.plan.kernels.map(({ name }) => name).join(', '),
          ops: [...new Set(explained.flatMap(({ ops }) => ops))],
          shape: explained.at(-1)?.shape ?? [],
          difference,
        };
        return { compared, first, sameProgram };
      }
      state = [];
      for (let i = 0; i < sizes.length; i++) state.push(await lab[1].read(i));
    } finally {
      for (const memory of lab) memory.dispose();
    }
  }
  return { compared, first: null, sameProgram };
}

function planOf(program: RunnableProgram, part: 'prepared' | 'plan'): Plan | null {
  return part === 'plan' ? program.plan : (program.prepared?.plan ?? null);
}

/** What two programs have in common that were compiled alike: calls, places and sizes of kernels. */
function formOf({ plan, prepared }: RunnableProgram): string {
  return JSON.stringify(
    [plan, prepared?.plan].map((each) => {
      if (each === undefined) return null;
      const { dispatches, bindings, arenaBytes, loops = [], kernels } = each;
      const grids = kernels.map(({ gridSize, buffers }) => [gridSize, buffers.length]);
      return { dispatches, bindings, arenaBytes, loops, grids };
    }),
  );
}

/** Runs one piece on both from the same state; leaves both with what the interpreter computed. */
async function comparePiece(
  piece: Piece,
  against: Piece,
  [subject, reference]: readonly [PlanMemory, PlanMemory],
  scalars: Float64Array,
  strict: boolean,
): Promise<number> {
  subject.run(piece.plan, scalars);
  reference.run(against.plan, scalars);
  let difference = 0;
  const written = writtenIn(against.plan);
  for (const [binding, places] of written) {
    const [own, wanted] = [await subject.read(binding), await reference.read(binding)];
    for (const { dtype, offset, bytes } of places) {
      const end = Math.min(offset + bytes, wanted.byteLength);
      const actual = own.slice(offset, end);
      const expected = wanted.slice(offset, end);
      difference = Math.max(difference, differenceOfBytes(dtype, actual, expected, strict));
    }
    subject.write(binding, wanted);
  }
  return difference;
}

type Written = {
  readonly dtype: Parameters<typeof differenceOfBytes>[0];
  readonly offset: number;
  readonly bytes: number;
};

/** By binding, what a plan may write. */
function writtenIn({ dispatches, kernels, loops = [] }: Plan): Map<number, Written[]> {
  const written = new Map<number, Written[]>();
  for (const { kernel, arguments: places } of dispatches) {
    const called = kernels[kernel] as Plan['kernels'][number];
    const { touched } = factsOf(called);
    places.forEach((place, i) => {
      const buffer = called.buffers[i] as (typeof called.buffers)[number];
      if (place.space !== 'binding' || buffer.access === 'read') return;
      const list = written.get(place.index) ?? [];
      // In a loop places move: then all that follows is looked at.
      const moves = loops.length > 0;
      const whole = Math.ceil((touched[i] as number) / byteSize(buffer.dtype));
      list.push({
        dtype: buffer.dtype,
        offset: moves ? 0 : (place.offset ?? 0),
        bytes: moves ? Infinity : whole * byteSize(buffer.dtype),
      });
      written.set(place.index, list);
    });
  }
  return written;
}

/** A plan in pieces that run alone; the arena becomes one more binding, so that it lasts. */
function piecesOf(plan: Plan): Piece[] {
  const arena = plan.bindings.length;
  const bindings = [
    ...plan.bindings.map(({ bytes }) => ({ bytes, access: 'readwrite' as const })),
    { bytes: Math.max(plan.arenaBytes, 8), access: 'readwrite' as const },
  ];
  const outside = (location: Location): Location => {
    if (location.space !== 'arena') return location;
    const { offset, strides } = location;
    return {
      space: 'binding',
      index: arena,
      offset,
      ...(strides === undefined ? {} : { strides }),
    };
  };
  const pieces: Piece[] = [];
  for (let first = 0; first < plan.dispatches.length;) {
    const around = (plan.loops ?? []).find((loop) => loop.depth === 0 && loop.first === first);
    const end = around?.end ?? first + 1;
    const own = plan.dispatches.slice(first, end);
    const used = [...new Set(own.map(({ kernel }) => kernel))];
    const dispatches = own.map(({ kernel, arguments: places }): Dispatch => {
      return { kernel: used.indexOf(kernel), arguments: places.map(outside) };
    });
    const loops = (plan.loops ?? []).flatMap((loop): Loop[] => {
      if (loop.first < first || loop.end > end) return [];
      const { condition } = loop;
      return [
        {
          ...loop,
          first: loop.first - first,
          end: loop.end - first,
          condition:
            condition === null ? null : { ...condition, location: outside(condition.location) },
        },
      ];
    });
    pieces.push({
      first,
      end,
      plan: {
        kernels: used.map((kernel) => plan.kernels[kernel] as Plan['kernels'][number]),
        dispatches,
        arenaBytes: 0,
        bindings,
        scalars: plan.scalars,
        ...(loops.length === 0 ? {} : { loops }),
      },
    });
    first = end;
  }
  return pieces;
}
