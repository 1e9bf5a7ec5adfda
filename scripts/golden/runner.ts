// Runs one case: builds its inputs, calls the adapter, compares outputs and then gradients.

import { compare } from './compare.ts';
import type { Comparison } from './compare.ts';
import {
  applyViews,
  DefectiveReference,
  makeTensor,
  NotInStage,
  readTensors,
  valueAndGradients,
} from './framework.ts';
import type { Tensor } from './framework.ts';
import type { Attributes, GoldenCase, GoldenTensor } from './manifest.ts';
import type { Outcome } from './report.ts';

/** What an adapter is given: tensors by PyTorch's positions, undefined where one is left out. */
export type Inputs = readonly (Tensor | undefined)[];

/** One tensor, or one per output. */
export type Outputs = Tensor | readonly Tensor[];

/** Calls the public operation of the same meaning; its work is to arrange arguments, no more. */
export type Adapter = (
  inputs: Inputs,
  attrs: Attributes,
  context: AdapterContext,
) => Outputs | Promise<Outputs>;

/** What some adapters need to know of their case beside inputs and attributes. */
export interface AdapterContext {
  readonly inputNames: readonly (string | null)[];
  readonly outputNames: readonly (string | null)[];
  /** Finds the adapter of another op, for ops that are defined over ops. */
  adapterOf(op: string): Adapter;
}

export type AdapterTable = Readonly<Record<string, Adapter>>;

interface Tally {
  readonly problems: string[];
  maxError: number;
  maxRatio: number;
}

function note(tally: Tally, name: string, comparison: Comparison): void {
  if (comparison.problem !== undefined) {
    tally.problems.push(`${name}: ${comparison.problem}`);
    return;
  }
  tally.maxError = Math.max(tally.maxError, comparison.maxError);
  tally.maxRatio = Math.max(tally.maxRatio, comparison.maxRatio);
}

function asList(outputs: Outputs): readonly Tensor[] {
  return Array.isArray(outputs) ? (outputs as readonly Tensor[]) : [outputs as Tensor];
}

/** The inputs as the op is to see them: views of the stored tensors where the case asks for it. */
function viewedInputs(leaves: Inputs, attrs: Attributes): Inputs {
  const views = attrs['views'];
  if (typeof views !== 'object' || views === null) return leaves;
  return leaves.map((leaf, position) => {
    const steps = (views as Attributes)[String(position)];
    return leaf === undefined || !Array.isArray(steps) ? leaf : applyViews(leaf, steps);
  });
}

function withoutViews(attrs: Attributes): Attributes {
  const { views: _, ...rest } = attrs;
  return rest;
}

async function checkOutputs(
  goldenCase: GoldenCase,
  outputs: readonly Tensor[],
  tally: Tally,
): Promise<void> {
  const { outputs: expected, outputNames, tolerance } = goldenCase;
  if (outputs.length !== expected.length) {
    tally.problems.push(`${outputs.length} outputs, expected ${expected.length}`);
    return;
  }
  const actual = await readTensors(outputs);
  for (const [index, golden] of expected.entries()) {
    const name = outputNames[index] ?? `output ${index}`;
    const output = actual[index];
    if (output !== undefined) note(tally, name, compare(output, golden, tolerance));
  }
}

/** Positions at which the case compares a gradient. */
function gradientPositions(goldenCase: GoldenCase): number[] {
  return goldenCase.gradInputs.flatMap((gradient, position) => (gradient === null ? [] : position));
}

async function checkGradients(
  goldenCase: GoldenCase,
  leaves: Inputs,
  run: (inputs: Inputs) => readonly Tensor[],
  tally: Tally,
): Promise<void> {
  const positions = gradientPositions(goldenCase);
  const wanted = positions.map((position) => leaves[position] as Tensor);
  const forward = (...tensors: readonly Tensor[]): readonly Tensor[] => {
    const inputs = [...leaves];
    positions.forEach((position, i) => {
      inputs[position] = tensors[i];
    });
    // Outputs without a cotangent are not differentiable, as indices.
    return run(inputs).filter((_, i) => goldenCase.gradOutputs[i] !== null);
  };
  const cotangents = goldenCase.gradOutputs
    .filter((cotangent): cotangent is GoldenTensor => cotangent !== null)
    .map((cotangent) => makeTensor(cotangent));
  const { value, grads } = valueAndGradients(forward, wanted, cotangents);
  // The value is computed with them: left pending, it would burden the next optimizer step.
  const [, ...gradients] = await readTensors([value, ...grads]);
  for (const [i, position] of positions.entries()) {
    const expected = goldenCase.gradInputs[position];
    const gradient = gradients[i];
    if (expected === null || expected === undefined || gradient === undefined) continue;
    const name = goldenCase.inputNames[position] ?? `input ${position}`;
    const comparison = compare(gradient, expected, goldenCase.tolerance);
    note(tally, `gradient by ${name}`, comparison);
  }
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return `threw ${String(error)}`;
  const place = error.stack?.split('\n').find((line) => /^\s+at .*\/src\//.test(line)) ?? '';
  return `threw ${error.name}: ${error.message}${place === '' ? '' : ` (${place.trim()})`}`;
}

/** Runs a case and says what became of it; nothing that an operation throws gets out. */
export async function runCase(
  goldenCase: GoldenCase,
  adapter: Adapter,
  adapterOf: (op: string) => Adapter,
): Promise<Outcome> {
  const { inputNames, outputNames } = goldenCase;
  const context: AdapterContext = { inputNames, outputNames, adapterOf };
  const attrs = withoutViews(goldenCase.attrs);
  const tally: Tally = { problems: [], maxError: 0, maxRatio: 0 };
  const call = (inputs: Inputs) => adapter(viewedInputs(inputs, goldenCase.attrs), attrs, context);
  try {
    const leaves = goldenCase.inputs.map((input) =>
      input === null ? undefined : makeTensor(input),
    );
    await checkOutputs(goldenCase, asList(await call(leaves)), tally);
    if (gradientPositions(goldenCase).length > 0) {
      const callAtOnce = (inputs: Inputs) => {
        const outputs = call(inputs);
        if (outputs instanceof Promise) throw new Error(`${goldenCase.op} cannot wait here`);
        return asList(outputs);
      };
      await checkGradients(goldenCase, leaves, callAtOnce, tally);
    }
  } catch (error) {
    if (error instanceof NotInStage || error instanceof DefectiveReference) {
      return { kind: 'skipped', reason: error.message };
    }
    tally.problems.push(describeError(error));
  }
  const { problems, maxError, maxRatio } = tally;
  return problems.length > 0
    ? { kind: 'failed', problems }
    : { kind: 'passed', maxError, maxRatio };
}
