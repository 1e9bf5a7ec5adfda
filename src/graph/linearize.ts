// Turns the graph that leads to some roots into a flat program and the key that identifies its
// structure. Runs on every step, so it allocates nothing per node.
import { dtypeIndex } from '../base/dtype.ts';
import { internalError, TraceError } from '../base/errors.ts';
import { newMark, type Node } from './node.ts';
import { KeyWriter, writeAttrs } from './op.ts';
import { guardsOf } from './ops/result.ts';
import { isParameter } from './subgraph.ts';

const LEAF = -1;

/** A flat program: `nodes` in an order where inputs come first, leaves included. */
export class Linearization {
  readonly nodes: Node[] = [];
  /** Nodes with a stored value, in order of first use: the plan's inputs. */
  readonly leaves: Node[] = [];
  /** Scalar slots in order of first use. */
  readonly scalars: Node[] = [];
  /** Nodes that promise something of their values. */
  readonly promises: Node[] = [];
  /** Nodes that are best computed with others. */
  readonly related: Node[] = [];
  /** Nodes that no plan can compute: functions on the host. */
  readonly hosts: Node[] = [];
  readonly key: KeyWriter = new KeyWriter();
  #mark = 0;
  readonly #stack: Node[] = [];
  readonly #next: number[] = [];

  /** Forgets the program, keeping the memory. */
  reset(): void {
    this.nodes.length = 0;
    this.leaves.length = 0;
    this.scalars.length = 0;
    this.promises.length = 0;
    this.related.length = 0;
    this.hosts.length = 0;
    this.key.length = 0;
    this.#mark = newMark();
  }

  /** Whether `node` is part of the program so far. */
  has(node: Node): boolean {
    return node.mark === this.#mark;
  }

  /** Appends everything that `root` needs and that is not there yet; returns its position. */
  add(root: Node): number {
    if (root.mark === this.#mark) return root.position;
    const stack = this.#stack;
    const next = this.#next;
    let depth = 0;
    stack[0] = root;
    next[0] = 0;
    while (depth >= 0) {
      const node = stack[depth] as Node;
      const child = next[depth] as number;
      if (node.storage === null && child < node.inputs.length) {
        next[depth] = child + 1;
        const input = node.inputs[child] as Node;
        if (input.mark !== this.#mark) {
          depth++;
          stack[depth] = input;
          next[depth] = 0;
        }
        continue;
      }
      depth--;
      // A diamond may push a node twice before it is emitted.
      if (node.mark !== this.#mark) this.#emit(node);
    }
    // The stack must not keep last step's graph alive.
    stack.fill(root, 0, Math.min(stack.length, 64));
    return root.position;
  }

  #emit(node: Node): void {
    node.mark = this.#mark;
    node.position = this.nodes.length;
    this.nodes.push(node);
    const key = this.key;
    if (node.storage !== null) {
      this.leaves.push(node);
      key.push(LEAF);
      key.push(dtypeIndex[node.dtype]);
      key.push(node.shape.length);
      for (let axis = 0; axis < node.shape.length; axis++) key.push(node.shape[axis] as number);
      return;
    }
    key.push(node.op.id);
    if (node.siblings !== null) this.related.push(node);
    if (node.op.promise !== undefined) this.promises.push(node);
    const { kind } = node.op.lower;
    if (kind === 'host') this.hosts.push(node);
    if (kind === 'region') this.promises.push(...guardsOf(node));
    if (kind === 'leaf') {
      if (isParameter(node)) {
        throw new TraceError('the value is known only while the loop runs', {
          op: 'control flow',
          hint: 'inside its functions compute with tensors: cond() in place of if, and read results outside',
        });
      }
      if (node.op.name !== 'scalar') {
        throw internalError(`${node.op.name} node ${node.id} has no value to start from`);
      }
      this.scalars.push(node);
      key.push(dtypeIndex[node.dtype]);
      return;
    }
    const inputs = node.inputs;
    key.push(inputs.length);
    for (let i = 0; i < inputs.length; i++) key.push((inputs[i] as Node).position);
    writeAttrs(node.op, node.attrs, key);
  }

  /** Drops references to nodes, so that a finished step can be collected. */
  release(): void {
    this.nodes.length = 0;
    this.leaves.length = 0;
    this.scalars.length = 0;
    this.promises.length = 0;
    this.related.length = 0;
    this.hosts.length = 0;
    this.#stack.length = 0;
  }
}
