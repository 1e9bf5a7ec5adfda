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

/** A map of nodes to numbers; those from `first` on have ids that follow each other. */
class Positions {
  readonly #first: number;
  readonly #older = new Map<Node, number>();
  /** One more than the number; 0 is none. */
  #own: Int32Array = new Int32Array(256);

  constructor(first: number) {
    this.#first = first;
  }

  get(node: Node): number | undefined {
    const at = node.id - this.#first;
    if (at < 0) return this.#older.get(node);
    const position = at < this.#own.length ? (this.#own[at] as number) : 0;
    return position === 0 ? undefined : position - 1;
  }

  has(node: Node): boolean {
    return this.get(node) !== undefined;
  }

  set(node: Node, position: number): void {
    const at = node.id - this.#first;
    if (at < 0) {
      this.#older.set(node, position);
      return;
    }
    if (at >= this.#own.length) {
      const larger = new Int32Array(2 * at);
      larger.set(this.#own);
      this.#own = larger;
    }
    this.#own[at] = position + 1;
  }
}

export abstract class Tape implements EvaluationObserver {
  /** Nodes with smaller ids stood before the call. */
  readonly firstId: number = nextNodeId();
  protected readonly positions: Positions = new Positions(this.firstId);
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
    if (this.#outside.length === 0) return true;
    return !this.#outside.some(([first, end]) => id >= first && id < end);
  }

  /** Nodes made since `first` are no part of the program. */
  protected leaveOut(first: number): void {
    this.#outside.push([first, nextNodeId()]);
  }

  /** The node that a leaf stands for, if it was made from one by this call. */
  protected baseOf(node: Node): readonly Node[] {
    if (this.#bases.size === 0) return NOTHING;
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

  #isLeaf(node: Node): boolean {
    return node.storage !== null || node.op.lower.kind === 'leaf' || !this.isOurs(node);
  }

  #number(node: Node, isLeaf: boolean): number {
    const position = this.emit(node, isLeaf);
    this.positions.set(node, position);
    return position;
  }

  /** The number of `root`; everything that leads to it, and has none yet, gets one. */
  protected take(root: Node): number {
    const known = this.positions.get(root);
    if (known !== undefined) return known;
    // What is made last has inputs with numbers, as a rule.
    const isLeaf = this.#isLeaf(root);
    const inputs = isLeaf ? this.baseOf(root) : root.inputs;
    for (let i = 0; i < inputs.length; i++) {
      if (!this.positions.has(inputs[i] as Node)) return this.#walk(root);
    }
    return this.#number(root, isLeaf);
  }

  /** Iterative: graphs can be deep. */
  #walk(root: Node): number {
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
      const isLeaf = this.#isLeaf(node);
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
      if (!this.positions.has(node)) this.#number(node, isLeaf);
    }
    return this.positions.get(root) as number;
  }
}
