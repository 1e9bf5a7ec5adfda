// Row groups: one kernel that does everything for a row - reductions, what depends on them, further
// reductions - phase after phase, while the row's values are in the cache.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import { valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Group } from '../schedule/group.ts';
import { reductionLoops } from './accumulate.ts';
import { collapse, indexVariables } from './axes.ts';
import { collectUses } from './elementwise.ts';
import { Emitter, type GroupOutput, type GroupView } from './emit.ts';
import { flatten } from './indexing.ts';
import { KernelBuilder, type Stage } from './kernel-builder.ts';
import { planNest } from './nest.ts';
import { accumulate, flattenParts, reducePart, runsOf, substituteAll } from './reduction.ts';
import { innermostLast, runsAsAxes } from './reduction-space.ts';
import { UseCollector } from './uses.ts';

/** Whether a group needs more than one pass over each row. */
export function hasPhases(group: Group): boolean {
  if (group.rows === null) return false;
  const { elements } = group.rows;
  return group.members.some(
    (member) => (group.phaseOf.get(member) ?? 0) > 0 || sizeOf(member.shape) === elements,
  );
}

/** The kernel of a row group, and the number of its phases. */
export function lowerPhases(
  group: Group,
  view: GroupView,
): { readonly stages: Stage[]; readonly phases: number } {
  const lowering = new PhaseLowering(group, view);
  return { stages: [lowering.run()], phases: lowering.phases };
}

/** Loops of one phase over the elements of a row. */
interface Pass {
  readonly reduced: readonly Variable[];
  /** Position of the first of them in the coefficients of the uses. */
  readonly first: number;
}

/** A pass that reduces, emitted but not yet in loops. */
interface ReducePass extends Pass {
  readonly anchors: readonly Node[];
  readonly mapped: readonly Expression[];
}

/** A pass that stores a value for each element. */
interface MapPass extends Pass {
  readonly body: readonly Statement[];
}

class PhaseLowering {
  readonly phases: number;
  readonly #group: Group;
  readonly #view: GroupView;
  readonly #kernel: KernelBuilder;
  readonly #shape: readonly number[];
  readonly #isReduced: readonly boolean[];
  readonly #kept: ReturnType<typeof indexVariables>;
  /** Variables that hold the reductions' results. */
  readonly #results = new Map<Node, Variable>();
  /** Arrays of one row, of values that later phases read and nobody else. */
  readonly #rowArrays = new Map<Node, Buffer>();
  readonly #axes: Variable[];
  readonly #values: Expression[] = [];

  constructor(group: Group, view: GroupView) {
    if (group.rows === null) throw internalError('a group without rows in phases');
    this.#group = group;
    this.#view = view;
    this.#kernel = new KernelBuilder(view.name);
    this.#shape = group.rows.shape;
    const { axes } = group.rows;
    this.#isReduced = this.#shape.map((_, axis) => axes.includes(axis));
    const sizes = this.#shape.filter((_, axis) => !this.#isReduced[axis]);
    this.#kept = indexVariables(this.#kernel.builder, 'i', sizes);
    this.#axes = [...this.#kept.variables];
    this.phases = Math.max(...group.phaseOf.values()) + 1;
    const written = new Set(view.outputs.map(({ node }) => node));
    for (const node of group.reloaded) {
      if (written.has(node)) continue;
      const length = group.rows.elements / group.rows.rows;
      this.#rowArrays.set(node, this.#kernel.privateArray(node.op.name, node.dtype, length));
    }
    for (const anchor of group.anchors) {
      const type = valueTypeOf(anchor.dtype);
      this.#results.set(anchor, this.#kernel.builder.variable(anchor.op.name, type));
    }
  }

  run(): Stage {
    const { builder } = this.#kernel;
    const reduces: ReducePass[] = [];
    const maps: (MapPass | null)[] = [];
    for (let phase = 0; phase < this.phases; phase++) {
      reduces.push(this.#emitReductions(phase));
      maps.push(this.#emitMaps(phase));
    }
    const rowStores = this.#emitRows();

    const collector = new UseCollector(this.#axes);
    for (const value of this.#values) collector.value(value);
    for (const pass of maps) if (pass !== null) collectUses(collector, pass.body);
    collectUses(collector, rowStores);
    const { uses } = collector;

    // The rows' loops first: what stands for their indices goes into every pass before it is spread
    // over lanes.
    const rows = innermostLast(collapse(this.#kept.variables, uses), uses);
    const work = this.#group.cost * sizeOf(this.#shape);
    const nest = planNest(builder, rows, { work, vector: false, piece: 1 });
    const body: Statement[] = [];
    for (let phase = 0; phase < this.phases; phase++) {
      const reduce = reduces[phase] as ReducePass;
      if (reduce.anchors.length > 0) body.push(...this.#reduceLoops(reduce, uses, nest.replaced));
      const map = maps[phase];
      if (map !== null && map !== undefined) body.push(...this.#mapLoops(map, uses, nest.replaced));
    }
    body.push(...substituteAll(builder, rowStores, nest.replaced));
    return this.#kernel.finish(nest.gridIndex, nest.gridSize, nest.wrap(body));
  }

  /** An emitter that sees results of reductions up to a phase, and elements stored before it. */
  #emitter(
    phase: number,
    resultsBefore: number,
    outputs: readonly GroupOutput[],
    place: Expression | null,
  ): Emitter {
    const { phaseOf, rows } = this.#group;
    const isInMemory = (node: Node): boolean => {
      if (this.#view.isInMemory(node)) return true;
      const known = phaseOf.get(node);
      return known !== undefined && known < phase && sizeOf(node.shape) === rows?.elements;
    };
    const emitter = new Emitter(this.#kernel, { ...this.#view, outputs, isInMemory });
    for (const [node, array] of this.#rowArrays) {
      if (place === null || (phaseOf.get(node) ?? 0) >= phase) continue;
      emitter.give(node, this.#kernel.builder.load(array, place));
    }
    for (const [anchor, variable] of this.#results) {
      if ((phaseOf.get(anchor) ?? 0) < resultsBefore) emitter.give(anchor, variable);
    }
    return emitter;
  }

  /** Fresh indices along the reduced axes. */
  #openPass(): Pass & { readonly indices: readonly Expression[]; readonly place: Expression } {
    const sizes = this.#shape.filter((_, axis) => this.#isReduced[axis]);
    const { indices, variables } = indexVariables(this.#kernel.builder, 'r', sizes);
    const first = this.#axes.length;
    this.#axes.push(...variables);
    const place = flatten(this.#kernel.builder, indices, sizes);
    return { reduced: variables, first, indices, place };
  }

  #emitReductions(phase: number): ReducePass {
    const anchors = this.#group.anchors.filter(
      (anchor) => this.#group.phaseOf.get(anchor) === phase,
    );
    if (anchors.length === 0) return { anchors, mapped: [], reduced: [], first: 0 };
    const pass = this.#openPass();
    const emitter = this.#emitter(phase, phase, [], pass.place);
    const mapped = anchors.flatMap((anchor) =>
      this.#partOf(anchor).map(emitter, this.#kept.indices, pass.indices),
    );
    this.#values.push(...mapped);
    return { ...pass, anchors, mapped };
  }

  #partOf(anchor: Node): ReturnType<typeof reducePart> {
    const reduced = this.#shape.filter((_, axis) => this.#isReduced[axis]);
    return reducePart(anchor, this.#isReduced, reduced);
  }

  #emitMaps(phase: number): MapPass | null {
    const { phaseOf, reloaded, rows } = this.#group;
    const kept = [...this.#rowArrays.keys()].map((node): GroupOutput => {
      return { node, memory: { kind: 'value', node } };
    });
    const outputs = [...this.#view.outputs, ...kept].filter(
      ({ node }) => sizeOf(node.shape) === rows?.elements && phaseOf.get(node) === phase,
    );
    if (outputs.length === 0) return null;
    for (const { node, memory } of outputs) {
      if (!this.#rowArrays.has(node)) this.#kernel.output(memory, node, reloaded.has(node));
    }
    const pass = this.#openPass();
    const emitter = this.#emitter(phase, phase + 1, outputs, pass.place);
    let nextKept = 0;
    let nextReduced = 0;
    const indices = this.#isReduced.map(
      (along) =>
        (along ? pass.indices[nextReduced++] : this.#kept.indices[nextKept++]) as Expression,
    );
    const place = (node: Node): { buffer: Buffer; index: Expression } | undefined => {
      const buffer = this.#rowArrays.get(node);
      return buffer === undefined ? undefined : { buffer, index: pass.place };
    };
    return { ...pass, body: emitter.storeOutputs(indices, this.#shape, place) };
  }

  /** Results with one element a row are stored last, when the row has been read for good. */
  #emitRows(): Statement[] {
    const { rows } = this.#group;
    const outputs = this.#view.outputs.filter(({ node }) => sizeOf(node.shape) === rows?.rows);
    if (outputs.length === 0) return [];
    const emitter = this.#emitter(0, this.phases, outputs, null);
    const sizes = this.#shape.filter((_, axis) => !this.#isReduced[axis]);
    return emitter.storeOutputs(this.#kept.indices, sizes);
  }

  #reduceLoops(
    pass: ReducePass,
    uses: UseCollector['uses'],
    rows: ReadonlyMap<Expression, Expression>,
  ): Statement[] {
    const { builder } = this.#kernel;
    const parts = pass.anchors.map((anchor) => this.#partOf(anchor));
    const reduced = this.#shape.filter((_, axis) => this.#isReduced[axis]);
    const { runs } = runsOf(this.#shape, this.#isReduced);
    const axes =
      this.#view.target.numerics === 'strict'
        ? runsAsAxes({ runs, reduced }, pass.reduced, uses, pass.first)
        : innermostLast(collapse(pass.reduced, uses, pass.first), uses);
    const space = { kernel: this.#kernel, mapped: pass.mapped, columns: false };
    const loops = reductionLoops(builder, axes);
    const sums = accumulate(this.#view, { parts }, space, loops, rows);
    const results = flattenParts({ parts }).perPart(sums.results);
    const lets = parts.map((part, which): Statement => ({
      kind: 'let',
      variable: this.#results.get(part.node) as Variable,
      value: part.finish(builder, results[which] as readonly Expression[]),
    }));
    return [...sums.statements, ...lets];
  }

  #mapLoops(
    pass: MapPass,
    uses: UseCollector['uses'],
    rows: ReadonlyMap<Expression, Expression>,
  ): readonly Statement[] {
    const { builder } = this.#kernel;
    const axes = innermostLast(collapse(pass.reduced, uses, pass.first), uses);
    const loops = reductionLoops(builder, axes);
    const replaced = new Map<Expression, Expression>([
      ...rows,
      ...loops.flatMap((loop) => loop.replaced),
    ]);
    let body = substituteAll(builder, pass.body, replaced);
    for (let i = loops.length - 1; i >= 0; i--) {
      const { index, start, end } = loops[i] as (typeof loops)[number];
      body = [{ kind: 'for', index, start, end, step: 1, body, vector: i === loops.length - 1 }];
    }
    return body;
  }
}
