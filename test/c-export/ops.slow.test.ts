// Every op's samples with their gradients as C: printed without warnings, by the bits of the
// interpreter, and with nothing for the sanitizers to say.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { exportC } from '../../src/backends/c/export.ts';
import { cTarget, type CVariant } from '../../src/backends/c/targets.ts';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { isFloat } from '../../src/base/dtype.ts';
import { compile } from '../../src/compile/compiler.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Linearization } from '../../src/graph/linearize.ts';
import type { Node } from '../../src/graph/node.ts';
import { makeNode, type ReferenceTensor } from '../../src/graph/op.ts';
import '../../src/graph/ops/index.ts';
import type { ExportRequest } from '../../src/runtime/export.ts';
import { runOnceOn } from '../../src/runtime/run-once.ts';
import { computedOps, leafFor, randomLike } from '../support/graphs.ts';
import { toStored } from '../support/run-graph.ts';
import { make, missing, runsHere, temporaryFolder, writeFiles } from './toolchains.ts';

const folder = temporaryFolder();
const noMake = missing('make');

interface Sampled {
  readonly roots: ReadonlyMap<string, Node>;
  readonly values: ReadonlyMap<Node, ReferenceTensor>;
}

/** All samples of every op whose number is `part` modulo `parts`, with gradients. */
function samples(part: number, parts: number): Sampled {
  const roots = new Map<string, Node>();
  const values = new Map<Node, ReferenceTensor>();
  computedOps().forEach((op, number) => {
    if (number % parts !== part) return;
    op.samples().forEach((sample, i) => {
      const leaves = sample.inputs.map(leafFor);
      const node = makeNode(op, leaves, sample.attrs);
      leaves.forEach((leaf, k) => values.set(leaf, sample.inputs[k]!));
      const name = `${op.name}_${i}`;
      roots.set(name, node);
      const floats = leaves.filter((leaf) => isFloat(leaf.dtype));
      if (typeof op.gradient !== 'function' || !isFloat(node.dtype) || floats.length === 0) return;
      const cotangent = leafFor(node);
      values.set(cotangent, randomLike(node, 9));
      gradients([node], [cotangent], floats).forEach((gradient, k) => {
        if (gradient !== null) roots.set(`${name}_gradient_${k}`, gradient);
      });
    });
  });
  return { roots, values };
}

async function exportSamples(
  name: string,
  { roots, values }: Sampled,
  variants: readonly CVariant[],
  options: { readonly numerics: 'strict' | 'fast'; readonly tolerance?: number },
) {
  const linear = new Linearization();
  linear.reset();
  const computed = [...new Set(roots.values())].filter(({ op }) => op.lower.kind !== 'leaf');
  for (const root of computed) linear.add(root);
  const program = {
    nodes: linear.nodes.slice(),
    leaves: linear.leaves.slice(),
    scalars: linear.scalars.slice(),
    roots: computed.map(({ position }) => ({ position, inPlaceOf: -1 })),
  };
  const device = new InterpDevice();
  const runOnce = runOnceOn(device);
  const scalars = Float64Array.from(program.scalars, ({ value }) => value);
  const inputs = program.leaves.map(({ dtype, shape }, binding) => {
    return { name: `input_${binding}`, dtype, shape, binding };
  });
  const contents = program.leaves.map((leaf) => new Uint8Array(toStored(values.get(leaf)!).buffer));
  const { plan, rootBindings } = compile(program, device.target(options.numerics));
  const outputs = [...roots].flatMap(([root, node]) => {
    const { dtype, shape } = node;
    const binding = rootBindings[computed.indexOf(node)];
    return binding === undefined ? [] : [{ name: root, dtype, shape, binding }];
  });
  const expected = await runOnce(
    plan,
    plan.bindings.map((_, i) => contents[i] ?? null),
    scalars,
    outputs.map(({ binding }) => binding),
  );
  const request: ExportRequest = {
    name,
    inputs,
    outputs,
    weights: [],
    scalars,
    testCases: [{ inputs: contents, outputs: expected }],
    runOnce,
  };
  const plans = new Map(
    variants.map((variant) => {
      const target = cTarget(variant, options.numerics);
      return [variant, { target, plan: compile(program, target).plan, prepared: null }];
    }),
  );
  const { tolerance } = options;
  return exportC([{ request, plans }], tolerance === undefined ? {} : { tolerance });
}

/** Every op in one variant; TENGEN_TEST_C=all takes all variants, with sanitizers: some minutes. */
const thorough = process.env['TENGEN_TEST_C'] === 'all';

describe.skipIf(noMake !== undefined)(`every op as C ${noMake ?? ''}`, () => {
  const PARTS = 6;
  const variants = (['scalar', 'sse', 'avx'] as const).filter(runsHere);
  const flags = thorough ? ['CFLAGS=-O1', 'SANITIZE=address,undefined'] : ['CFLAGS=-O0'];

  it.each(Array.from({ length: PARTS }, (_, part) => part))(
    'part %i',
    async (part) => {
      const where = join(folder, String(part));
      const chosen = thorough ? variants : [variants[part % variants.length] ?? 'scalar'];
      const files = await exportSamples('samples', samples(part, PARTS), chosen, {
        numerics: 'strict',
      });
      writeFiles(where, files);
      for (const variant of chosen) {
        const printed = make(where, 'test', `VARIANT=${variant}`, ...flags);
        expect(printed).toContain('max relative difference: 0 (tolerance 0): passed');
      }
    },
    600_000,
  );
});
