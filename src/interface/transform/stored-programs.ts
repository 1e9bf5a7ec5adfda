// Compiled programs from an earlier process: which ones may be taken, and the form they are kept in.
import { BUILD } from '../../base/build.ts';
import type { AlgorithmPolicy } from '../../compile/tune/algorithms.ts';
import type { CompiledProgram, Root } from '../../compile/program.ts';
import type { Linearization } from '../../graph/linearize.ts';
import type { Device } from '../../runtime/device.ts';
import type { Plan } from '../../runtime/plan.ts';
import type { ProgramKey } from '../../runtime/program-store.ts';
import { targetOf } from './settings.ts';

/** What is kept of a program beside its plans. */
interface Rest extends Omit<CompiledProgram, 'plan' | 'prepared' | 'stored'> {
  readonly stored: readonly number[];
  readonly prepared: Omit<NonNullable<CompiledProgram['prepared']>, 'plan'> | null;
}

/** What decides the compilation of one program, beside the program. */
export interface Circumstances {
  readonly device: Device;
  readonly policy: AlgorithmPolicy;
  /** Name of the device and the settings. */
  readonly shelf: string;
  readonly roots: readonly Root[];
  readonly constantLeaves: readonly boolean[];
}

/**
 * The program as an earlier process compiled it, or as `compile` does now, which is kept for the
 * next. Sources that run unbuilt may have changed meanwhile: they keep nothing. Nor does a policy
 * that measures, whose choices are not the program's alone, nor a program with an op from outside.
 */
export function compiledOnce(
  linear: Linearization,
  circumstances: Circumstances,
  compile: () => CompiledProgram,
): { readonly compiled: CompiledProgram; readonly keep: () => void } {
  const { device, policy } = circumstances;
  const store = device.programs ?? null;
  const isOurs = !linear.nodes.some(({ op }) => op.isOwn === true);
  if (store === null || BUILD === null || policy.tuner !== undefined || !isOurs) {
    return { compiled: compile(), keep: () => undefined };
  }
  const key = keyOf(linear, circumstances, BUILD);
  const stored = store.load(key);
  if (stored !== null) return { compiled: restored(stored), keep: () => undefined };
  const compiled = compile();
  return {
    compiled,
    keep: () => store.save(key, { plans: plansOf(compiled), rest: restOf(compiled) }),
  };
}

function keyOf(linear: Linearization, circumstances: Circumstances, build: string): ProgramKey {
  const { device, shelf, roots, constantLeaves } = circumstances;
  const target = targetOf(device);
  return {
    context: JSON.stringify([build, shelf, target, roots, constantLeaves]),
    words: linear.key.words.slice(0, linear.key.length),
  };
}

function plansOf({ plan, prepared }: CompiledProgram): Plan[] {
  return prepared === null ? [plan] : [plan, prepared.plan];
}

function restOf({ plan: _plan, prepared, stored, ...rest }: CompiledProgram): string {
  const { plan: _ahead, ...ahead } = prepared ?? {};
  const kept = { ...rest, stored: [...stored], prepared: prepared === null ? null : ahead };
  return JSON.stringify(kept);
}

function restored({ plans, rest }: { plans: readonly Plan[]; rest: string }): CompiledProgram {
  const { stored, prepared, ...others } = JSON.parse(rest) as Rest;
  const [plan, ahead] = plans as readonly [Plan, Plan];
  return {
    ...others,
    plan,
    stored: Uint8Array.from(stored),
    prepared: prepared === null ? null : { ...prepared, plan: ahead },
  };
}
