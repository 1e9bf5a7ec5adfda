// When and how pending graphs are computed: gathers the roots of a step, finds or compiles the
// plan, binds memory, runs, and learns which values later plans ask for. docs/deferred.md tells
// users what this file does.
import { DisposedError, internalError, TraceError } from '../../base/errors.ts';
import type { Root } from '../../compile/program.ts';
import { Linearization } from '../../graph/linearize.ts';
import { newMark, type Node } from '../../graph/node.ts';
import { copy, detach } from '../../graph/ops/copy.ts';
import type { Device, DeviceBuffer } from '../../runtime/device.ts';
import type { Storage } from '../../runtime/storage.ts';
import { openBodies } from '../../graph/bodies.ts';
import type { AssignOptions, Engine, HostAction, NodeHolder } from '../tensor/engine.ts';
import { type EvaluationObserver, unseen } from './observers.ts';
import { bindLeaves, bindRoots, deviceFor } from './binding.ts';
import { checkForNaN } from './check-nan.ts';
import { aboutToBeLost, isReadable } from './earlier-values.ts';
import { type Assignment, type Entry, type Results, type Run, runMeasured } from './entry.ts';
import { firstHosts, runOnHost } from './host-steps.ts';
import { checkGuards, checkStoredIndices } from './promises.ts';
import { HeldValues } from './held-values.ts';
import { LearnedValues } from './learning.ts';
import { isTraining, Plans, type RecentPlan } from './plans.ts';
import { settings } from './settings.ts';
import { leafOn, readValue, toStorage, viewValue } from './values.ts';

/** Pending results beyond which everything is evaluated, so that a forgotten graph stays bounded. */
const PENDING_LIMIT = 10_000;
/** Length of the list of pending results at which it is first looked through. */
const COMPACT_PENDING = 256;

/** What an evaluation computes beside what is asked for: all assignments, those of buffers, or none. */
type Scope = 'step' | 'buffers' | 'values';

/** Counters since the start or the last `resetStats`. */
export interface EvaluatorStats {
  runs: number;
  planHits: number;
  planMisses: number;
  kernelsExecuted: number;
  compileMs: number;
}

export class Evaluator implements Engine {
  readonly stats: EvaluatorStats = {
    runs: 0,
    planHits: 0,
    planMisses: 0,
    kernelsExecuted: 0,
    compileMs: 0,
  };
  readonly #linear = new Linearization();
  readonly #learned = new LearnedValues();
  /** Values that may be given up under a memory budget. */
  readonly held = new HeldValues();
  readonly #plans = new Plans(this.stats, (entry) => this.#learned.forget(entry));
  /** Latest pending assignment of each storage. */
  #assignments = new Map<Storage, Assignment>();
  /** Their nodes: each may be the value of one storage only. */
  #assignedNodes = new Set<Node>();
  #pending: Node[] = [];
  #compactAt = COMPACT_PENDING;
  #keep: Node[] = [];
  /** What the evaluation that is going on computes. */
  #computed: readonly Node[] = [];
  #runId = 0;
  #warnedOfLimit = false;
  #evaluating = false;
  /** Who sees what is built and computed, the innermost last. */
  readonly observers: EvaluationObserver[] = [];
  /** Told which plan computed a result. */
  readonly resultWatchers = new WeakMap<Node, (entry: Entry, device: Device) => void>();
  /** The plans run last, newest first: what `explain()` shows. */
  readonly recent: readonly RecentPlan[] = this.#plans.recent;

  created(node: Node): void {
    this.#pending.push(node);
    if (this.observers.length > 0) for (const observer of this.observers) observer.created?.(node);
    if (settings.checkNaN && !this.#evaluating) checkForNaN(this, node);
    if (settings.eager && !this.#evaluating) this.#evaluateEagerly(node);
    else if (this.#pending.length > this.#compactAt) this.#compactPending();
  }

  keep(node: Node): void {
    for (const observer of this.observers) observer.kept?.(node);
    this.held.pin(node);
    if (node.storage === null) this.#keep.push(node);
  }

  /** Nodes from number `id` on are computed only if somebody asks for them. */
  forget(id: number): void {
    for (const node of this.#pending) if (node.id >= id) node.consumed = true;
    this.#keep = this.#keep.filter((node) => node.id < id);
  }

  act<T>(action: HostAction<T>): T {
    return unseen(this.observers, action, 'acting');
  }

  outside<T>(action: HostAction<T>): T {
    return unseen(this.observers, action, 'leaving');
  }

  assign(holder: NodeHolder, storage: Storage, value: Node, options: AssignOptions): void {
    if (openBodies().length > 0) {
      throw new TraceError(`${storage.label} is assigned to inside a loop or branch`, {
        op: 'control flow',
        hint: 'return the new value, and assign it outside (layers that keep statistics: eval())',
      });
    }
    // A value that is stored already, or that another tensor takes over, is copied.
    let node = value;
    if (node.storage !== null || node.op.lower.kind === 'leaf' || this.#assignedNodes.has(node)) {
      node = copy(node);
    }
    // What is computed from a parameter that was just assigned is differentiable by it; a buffer
    // has no history.
    if (storage.tracked) node.tracked = true;
    else node = detach(node);
    node.consumed = true;
    const inPlace = options.inPlace === true;
    const assignment = { holder, storage, node, inPlace };
    for (const observer of this.observers) observer.assigned?.(assignment);
    this.#forgetAssignment(storage);
    this.#assignedNodes.add(node);
    this.#assignments.set(storage, assignment);
    holder.node = node;
  }

  replacing(storage: Storage): void {
    if (storage.version === 0) return;
    const lost = this.#lostBy(new Map([[storage, { inPlace: false }]]));
    if (lost.length > 0) this.#evaluate(lost, 'values');
  }

  replaced(holder: NodeHolder, storage: Storage): void {
    for (const observer of this.observers) observer.replaced?.(holder);
    this.#forgetAssignment(storage);
    holder.node = leafOn(storage, holder.node);
  }

  #forgetAssignment(storage: Storage): void {
    const present = this.#assignments.get(storage);
    if (present === undefined) return;
    this.#assignedNodes.delete(present.node);
    this.#assignments.delete(storage);
  }

  /** Assignments that no run has made yet. */
  pendingAssignments(): readonly Assignment[] {
    return [...this.#assignments.values()];
  }

  /** Computes pending results made before node `id` that nothing uses, and no assignments. */
  computeBefore(id: number): void {
    const roots = this.#unconsumed().filter((node) => node.id < id);
    if (roots.length > 0) this.#evaluateReadable(roots, 'values');
  }

  /** Computes values that stand before a traced function. */
  computeValues(nodes: readonly Node[]): void {
    this.#evaluate(nodes, 'values');
  }

  /** Takes assignments back that no run has made. */
  cancelAssignments(made: readonly Assignment[]): void {
    this.#cancel(made);
  }

  step(): void {
    for (const observer of this.observers.toReversed()) if (observer.stepping?.() === true) return;
    this.#step();
  }

  #step(): void {
    const roots = this.#unread();
    try {
      this.#evaluateReadable(roots, 'step', true);
    } finally {
      this.#pending.length = 0;
      this.#keep.length = 0;
    }
  }

  /** Nobody has asked for these results: of one that is lost, only who reads it needs to hear. */
  #evaluateReadable(roots: readonly Node[], scope: Scope, background = false): void {
    try {
      this.#evaluate(roots, scope, background);
    } catch (error) {
      const readable = error instanceof DisposedError ? roots.filter(isReadable) : roots;
      if (readable.length === roots.length) throw error;
      this.#evaluate(readable, scope, background);
    }
  }

  /**
   * Results that nobody has read yet, and that could not be computed after these changes. Inside a
   * trace there are none: its programs must not vary.
   */
  #lostBy(changes: ReadonlyMap<Storage, { readonly inPlace: boolean }>): readonly Node[] {
    if (changes.size === 0 || this.observers.length > 0) return [];
    return aboutToBeLost(this.#unread(), changes);
  }

  /** Pending results that nothing uses, and those that are to be kept. */
  #unread(): Node[] {
    return [...this.#unconsumed(), ...this.#keep.filter((node) => node.storage === null)];
  }

  evaluate(nodes: readonly Node[], background = false): void {
    for (const observer of this.observers) observer.reading?.(nodes, background);
    if (!this.held.isEmpty) for (const node of nodes) this.#restore(node, nodes);
    for (const node of nodes) {
      if (node.storage === null) {
        this.#evaluate(nodes, 'buffers', background);
        this.#makeRoom(nodes);
        return;
      }
      (node.storage as Storage).check(node.version);
    }
  }

  // ---- values that were given up --------------------------------------------------------------

  /** Computes what `node` was or is made of again, value by value as at first, if it was given up. */
  #restore(node: Node, needed: readonly Node[], andNew = false): void {
    if (node.storage !== null || !(andNew || this.held.knows(node))) return;
    const missing = this.held.missing(node);
    missing.forEach((each, i) => {
      if (each.storage !== null) return;
      this.#evaluate([each], 'values');
      this.#makeRoom([...needed, ...this.held.sourcesOf([...missing.slice(i + 1), node])]);
    });
  }

  /** Gives up values beyond the budget. Not inside a trace: its programs must not vary. */
  #makeRoom(needed: readonly Node[]): void {
    const budget = settings.memoryBudget;
    if (typeof budget !== 'number' || this.observers.length > 0) return;
    this.held.shrink(budget, needed);
  }

  #unconsumed(): Node[] {
    const roots: Node[] = [];
    for (const node of this.#pending) {
      if (isUnused(node) && node.origin === null) roots.push(node);
    }
    return roots;
  }

  /** Forgets what is computed or used meanwhile, so that old graphs can be collected. */
  #compactPending(): void {
    this.#dropFinished();
    this.#compactAt = Math.max(COMPACT_PENDING, 2 * this.#pending.length);
    if (this.#pending.length > PENDING_LIMIT) this.#evaluateAtLimit();
  }

  #dropFinished(): void {
    const pending = this.#pending;
    let kept = 0;
    for (let i = 0; i < pending.length; i++) {
      const node = pending[i] as Node;
      if (isUnused(node)) pending[kept++] = node;
    }
    pending.length = kept;
  }

  #evaluateAtLimit(): void {
    if (!this.#warnedOfLimit) {
      this.#warnedOfLimit = true;
      console.warn(
        `tengen: ${PENDING_LIMIT} results are pending; evaluating them. Read or evaluate() results inside long loops.`,
      );
    }
    this.step();
  }

  #evaluateEagerly(node: Node): void {
    // Gradients, which are siblings, are one plan: what it needs again is a part of it.
    if (!this.held.isEmpty && node.siblings === null) this.#restore(node, [node], true);
    this.#evaluate([node], 'buffers');
    this.#makeRoom([node]);
    this.#pending.length = 0;
  }

  // ---- one evaluation -------------------------------------------------------------------------

  #evaluate(requested: readonly Node[], scope: Scope, background = false): void {
    if (this.#evaluating) throw internalError('evaluation inside an evaluation');
    this.#evaluating = true;
    try {
      const lost = scope === 'step' ? [] : this.#lostBy(this.#assignments);
      if (lost.length > 0) this.#evaluateOnce(lost, 'values', false);
      this.#evaluateOnce(requested, scope, background);
    } catch (error) {
      // The caller hears of it now: the next step must not fail of the same values.
      for (const node of [...requested, ...this.#computed]) node.consumed = true;
      throw error;
    } finally {
      this.#computed = [];
      this.#linear.release();
      this.#evaluating = false;
    }
    // What was evaluated is no longer pending: on this list it would outlive its tensor.
    if (this.#pending.length <= COMPACT_PENDING) this.#dropFinished();
    if (this.#keep.length > 0) this.#keep = this.#keep.filter((node) => node.storage === null);
  }

  #evaluateOnce(requested: readonly Node[], scope: Scope, background: boolean): void {
    const linear = this.#linear;
    linear.reset();
    const assigned: Assignment[] = [];
    const rootNodes: Node[] = [];
    for (const node of requested) if (node.storage === null) linear.add(node);
    const computed = scope === 'step' ? requested : this.#withSiblings(requested);
    this.#computed = computed;
    // Parameters change in steps; buffers (running statistics) whenever anything is computed, so
    // that a loop that only evaluates does not pile up their history.
    for (const { node, storage } of this.#assignments.values()) {
      if (scope === 'step' || (scope === 'buffers' && !storage.tracked)) linear.add(node);
    }
    // An assignment whose value this plan computes anyway is made now.
    for (const assignment of this.#assignments.values()) {
      if (linear.has(assignment.node)) assigned.push(assignment);
    }
    if (linear.hosts.length > 0) {
      this.#computeHosts(assigned);
      // Now they are leaves; those that need them come next.
      this.#evaluateOnce(computed, scope, background);
      return;
    }
    const seen = newMark();
    const assignedNodes = new Set<Node>();
    for (const { node } of assigned) assignedNodes.add(node);
    const unique = new Set<Node>();
    for (const node of computed) {
      if (node.storage !== null || assignedNodes.has(node) || unique.has(node)) continue;
      unique.add(node);
      rootNodes.push(node);
    }
    if (rootNodes.length === 0 && assigned.length === 0) return;
    const device = deviceFor(linear.leaves);
    this.#bindLeafIndices(seen);
    const promises = this.#checkStored(assigned);
    const inPlace = promises.length === 0;
    const roots = this.#roots(rootNodes, assigned, device, seen, inPlace);
    const results = { rootNodes, assigned, roots, promises };
    this.#completeKey(roots, isTraining(rootNodes));
    const entry = this.#planFor(device, results);
    this.#learned.learn(linear.nodes, rootNodes);
    if (entry.stale) this.#plans.renew(entry, device, linear, results);
    this.#run(entry, device, results, background);
  }

  /** The plan. Where there can be none, within a memory budget, nothing is assigned. */
  #planFor(device: Device, results: Results): Entry {
    try {
      return this.#plans.find(device, this.#linear, results);
    } catch (error) {
      this.#cancel(results.assigned);
      throw error;
    }
  }

  /** Runs the functions on the host that need no other, behind one plan for all that they take. */
  #computeHosts(assigned: readonly Assignment[]): void {
    const ready = firstHosts(this.#linear);
    const inputs = ready.flatMap((node) => node.inputs);
    try {
      this.#evaluateOnce(inputs, 'values', false);
      for (const node of ready) runOnHost(this, node);
    } catch (error) {
      this.#cancel(assigned);
      throw error;
    }
  }

  /** Adds gradients that belong to those that are computed. (A step fuses them with its updates.) */
  #withSiblings(requested: readonly Node[]): readonly Node[] {
    const linear = this.#linear;
    if (linear.related.length === 0) return requested;
    const all = [...requested];
    for (const related of linear.related) {
      const { siblings } = related;
      // Of a loop's results, those that go with one that is asked for.
      const inside = related.op.lower.kind === 'result' && !requested.includes(related);
      if (siblings === null || inside) continue;
      for (const node of siblings) {
        node.siblings = null;
        if (node.storage !== null || node.origin !== null) continue;
        linear.add(node);
        all.push(node);
      }
    }
    return all;
  }

  /** Checks that every leaf's version is held, and notes where each storage stands. */
  #bindLeafIndices(seen: number): void {
    const { leaves } = this.#linear;
    for (let i = 0; i < leaves.length; i++) {
      const leaf = leaves[i] as Node;
      const storage = leaf.storage as Storage;
      storage.check(leaf.version);
      if (leaf.version === storage.version) {
        storage.leafMark = seen;
        storage.leafIndex = i;
      }
    }
  }

  /** Checks the indices that are stored; returns the promises of those that are computed. */
  #checkStored(assigned: readonly Assignment[]): readonly Node[] {
    const { promises } = this.#linear;
    if (promises.length === 0) return promises;
    try {
      return checkStoredIndices(promises);
    } catch (error) {
      this.#cancel(assigned);
      throw error;
    }
  }

  /** What was to be assigned is not: the next step must not fail of the same values. */
  #cancel(assigned: readonly Assignment[]): void {
    for (const { holder, storage, node } of assigned) {
      if (this.#assignments.get(storage)?.node === node) this.#forgetAssignment(storage);
      if (holder.node === node) holder.node = leafOn(storage, node);
    }
  }

  /** The plan's roots: results first, then assignments. */
  #roots(
    rootNodes: readonly Node[],
    assigned: readonly Assignment[],
    device: Device,
    seen: number,
    mayOverwrite: boolean,
  ): Root[] {
    const roots: Root[] = [];
    for (const node of rootNodes) roots.push({ position: node.position, inPlaceOf: -1 });
    for (const { storage, node, inPlace } of assigned) {
      // Uploaded first, so that the first step has the same structure as the later ones.
      if (storage.device !== device || storage.buffer === null) storage.upload(device);
      const leaf = storage.leafMark === seen ? storage.leafIndex : -1;
      roots.push({ position: node.position, inPlaceOf: inPlace && mayOverwrite ? leaf : -1 });
    }
    return roots;
  }

  #completeKey(roots: readonly Root[], training: boolean): void {
    const { key } = this.#linear;
    key.push(training ? 1 : 0);
    key.push(roots.length);
    for (const root of roots) {
      key.push(root.position);
      key.push(root.inPlaceOf);
    }
  }

  /** Drops all plans, or those of a device, and their memory; the next evaluations compile again. */
  clearPlans(device?: string): void {
    this.#plans.clear(device);
  }

  // ---- running --------------------------------------------------------------------------------

  #run(entry: Entry, device: Device, results: Results, background: boolean): void {
    const { rootNodes, assigned, promises } = results;
    const { nodes, scalars } = this.#linear;
    for (let i = 0; i < scalars.length; i++) entry.scalars[i] = (scalars[i] as Node).value;
    bindLeaves(entry, device, this.#linear.leaves);
    const outputs = bindRoots(entry, device, this.#linear, results);
    if (entry.ahead !== null) {
      entry.ahead.bind(entry.bindings);
      const { leaves } = this.#linear;
      this.stats.kernelsExecuted += entry.ahead.run(leaves, entry.bindings, entry.scalars);
    }
    if (settings.profiling) runMeasured(entry);
    else entry.executable.run(entry.bindings, entry.scalars, background && promises.length === 0);
    this.stats.runs++;
    this.stats.kernelsExecuted += entry.compiled.plan.dispatches.length;
    entry.runs++;
    this.#plans.ran(entry, device);
    for (const observer of this.observers) observer.ran?.(entry, device);

    if (promises.length > 0) this.#checkPromises(device, results, outputs);

    const run: Run = { runId: ++this.#runId, entry };
    const wasStep = assigned.some(({ storage }) => storage.tracked);
    this.#storeResults(device, rootNodes, outputs, wasStep);
    for (const node of rootNodes) this.resultWatchers.get(node)?.(entry, device);
    this.#storeAssignments(device, assigned, outputs, rootNodes.length);
    this.#learned.store(entry, device, run, nodes, outputs, rootNodes.length + assigned.length);
    this.#hold(entry, rootNodes, wasStep);
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i] as Node;
      if (node.storage === null) {
        node.origin = run;
        node.originPosition = i;
      }
    }
    this.#learned.expire(entry, wasStep);
  }

  /** Takes note of values that a memory budget may ask back. */
  #hold({ compiled, learnedRoots }: Entry, rootNodes: readonly Node[], wasStep: boolean): void {
    if (wasStep) this.held.clear();
    else if (typeof settings.memoryBudget === 'number') {
      const { nodes, leaves } = this.#linear;
      const learned = learnedRoots.map((position) => nodes[position] as Node);
      this.held.ran(compiled, leaves, [...rootNodes, ...learned]);
    }
  }

  /** Takes the guards off `outputs`. If a promise was broken, nothing of the run is kept. */
  #checkPromises(device: Device, { promises, assigned }: Results, outputs: DeviceBuffer[]): void {
    const guards = outputs.splice(outputs.length - 2 * promises.length);
    const values = guards.map((buffer) => device.view(buffer).slice());
    for (const buffer of guards) device.free(buffer);
    try {
      checkGuards(promises, values);
    } catch (error) {
      for (const buffer of outputs) device.free(buffer);
      this.#cancel(assigned);
      throw error;
    }
  }

  #storeResults(
    device: Device,
    rootNodes: readonly Node[],
    outputs: readonly DeviceBuffer[],
    wasStep: boolean,
  ): void {
    for (let i = 0; i < rootNodes.length; i++) {
      const node = rootNodes[i] as Node;
      node.storage = toStorage(device, outputs[i] as DeviceBuffer, node);
      node.version = 0;
      // They would keep the graph, and through its values all earlier ones.
      node.siblings = null;
      // After a step the weights of this history are gone; without tracking nobody asks for it.
      if (wasStep || !node.tracked) node.inputs = NO_INPUTS;
    }
  }

  #storeAssignments(
    device: Device,
    assigned: readonly Assignment[],
    outputs: readonly DeviceBuffer[],
    firstOutput: number,
  ): void {
    for (let i = 0; i < assigned.length; i++) {
      const { holder, storage, node, inPlace } = assigned[i] as Assignment;
      const buffer = outputs[firstOutput + i] as DeviceBuffer;
      if (inPlace && storage.buffer === buffer) storage.overwritten();
      else {
        const unused = storage.advance(device, buffer);
        if (unused !== null) device.free(unused);
      }
      node.storage = storage;
      node.version = storage.version;
      node.inputs = NO_INPUTS;
      if (this.#assignments.get(storage)?.node === node) this.#forgetAssignment(storage);
      if (holder.node === node) holder.node = leafOn(storage, node);
    }
    if (assigned.length > 0 && this.#assignments.size === 0) {
      // V8 links the table that a map outgrows to its successor. Once such a table is old, it would
      // keep this step's graph, and all later ones, until the next full collection.
      this.#assignments = new Map();
      this.#assignedNodes = new Set();
    }
  }

  // ---- reading --------------------------------------------------------------------------------

  read(node: Node): Promise<Uint8Array> {
    return readValue(node);
  }

  readSync(node: Node): Uint8Array {
    return viewValue(node).slice();
  }

  viewSync(node: Node): Uint8Array {
    return viewValue(node);
  }
}

/** Whether nothing has used or computed `node`. Of a loop with several results, one in use is enough. */
function isUnused(node: Node): boolean {
  const all = node.op.lower.kind === 'result' ? (node.siblings ?? [node]) : [node];
  return all.every(({ consumed, storage }) => !consumed && storage === null);
}

const NO_INPUTS: readonly Node[] = Object.freeze([]);
