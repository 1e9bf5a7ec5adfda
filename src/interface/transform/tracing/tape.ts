// The nodes that a function makes while it is traced, in the order in which they appear: each gets a
// number once, whatever is computed meanwhile.
import type { Node } from '../../../graph/node.ts';
import { aliasListeners, scalar } from '../../../graph/ops/index.ts';
import type { EvaluationObserver } from '../observers.ts';
import { evaluator } from '../install.ts';

/** A number that no node made so far reaches. */
export function nextNodeId(): number {
  return scalar(0, 'float32').id;
}

const NOTHING: readonly Node[] = Object.freeze([]);

/** Runs `body` with everything it builds and computes seen by `observer`. */
export function observed<T>(observer: EvaluationObserver, body: () => T): T {
  const { observers } = evaluator();
  observers.push(observer);
  try {
    return body();
  } finally {
    observers.splice(observers.indexOf(observer), 1);
  }
}

export abstract class Tape implements EvaluationObserver {
  /** Nodes with smaller ids stood before the call. */
  readonly firstId: number = nextNodeId();
  protected readonly positions = new Map<Node, number>();
  /** Ids of nodes that are no part of the program: from the first of each pair up to the second. */
  readonly #outside: (readonly [number, number])[] = [];
  /** What leaves were made from that stand for the same value as others. */
  readonly #bases = new Map<Node, Node>();
  readonly #stack: Node[] = [];
  readonly #next: number[] = [];

  abstract created(node: Node): void;

  /** Gives `node` a number; its inputs have theirs. */
  protected abstract emit(node: Node, isLeaf: boolean): number;

  /** Whether a node was made by the call, and not by what is left out of it. */
  protected isOurs({ id }: Node): boolean {
    if (id < this.firstId) return false;
    return !this.#outside.some(([first, end]) => id >= first && id < end);
  }

  /** Nodes made since `first` are no part of the program. */
  protected leaveOut(first: number): void {
    this.#outside.push([first, nextNodeId()]);
  }

  /** The node that a leaf stands for, if it was made from one by this call. */
  protected baseOf(node: Node): readonly Node[] {
    const base = this.#bases.get(node);
    return base === undefined || !this.isOurs(node) ? NOTHING : [base];
  }

  /** Runs `body` with everything it builds and computes seen. */
  during<T>(body: () => T): T {
    const listener = (alias: Node, of: Node): void => void this.#bases.set(alias, of);
    aliasListeners.add(listener);
    try {
      return observed(this, body);
    } finally {
      aliasListeners.delete(listener);
    }
  }

  /** The number of `root`; everything that leads to it, and has none yet, gets one. */
  protected take(root: Node): number {
    const known = this.positions.get(root);
    if (known !== undefined) return known;
    const stack = this.#stack;
    const next = this.#next;
    // A walk that threw has left its stack behind.
    stack.length = 0;
    next.length = 0;
    stack.push(root);
    next.push(0);
    while (stack.length > 0) {
      const top = stack.length - 1;
      const node = stack[top] as Node;
      const isLeaf = node.storage !== null || node.op.lower.kind === 'leaf' || !this.isOurs(node);
      const child = next[top] as number;
      const inputs = isLeaf ? this.baseOf(node) : node.inputs;
      if (child < inputs.length) {
        next[top] = child + 1;
        const input = inputs[child] as Node;
        if (!this.positions.has(input)) {
          stack.push(input);
          next.push(0);
        }
        continue;
      }
      stack.pop();
      next.pop();
      // A diamond may push a node twice.
      if (!this.positions.has(node)) this.positions.set(node, this.emit(node, isLeaf));
    }
    return this.positions.get(root) as number;
  }
}
