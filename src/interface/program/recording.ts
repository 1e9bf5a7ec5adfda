// One call of a function that is taken down as a program: on stand-ins, without computing anything, and
// without a trace of it on the host.
import { TraceError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import { counting } from '../tensor/counting.ts';
import {
  engine,
  type HostAction,
  type HostObserver,
  type NodeHolder,
  watched,
} from '../tensor/engine.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Assignment } from '../transform/entry.ts';
import { evaluator } from '../transform/install.ts';
import type { EvaluationObserver } from '../transform/observers.ts';
import { checkTensorTree } from '../transform/tree.ts';
import { userLine } from '../transform/user-line.ts';
import { ProgramCounting } from './counted.ts';

/** What was built: results, what was assigned to, and what the program counts. */
export interface Recorded {
  readonly result: unknown;
  readonly made: readonly Assignment[];
  readonly counted: ReadonlyMap<Tensor, string>;
}

/** Refuses what a program cannot do later, and notes what has to be put back. */
class Recording implements EvaluationObserver, HostObserver {
  readonly #name: string;
  readonly #undo: (() => void)[] = [];
  readonly #gradients = new Set<NodeHolder>();
  readonly #created: Node[] = [];

  constructor(name: string) {
    this.#name = name;
  }

  created(node: Node): void {
    this.#created.push(node);
  }

  reading(): void {
    throw this.#refusal('reads a value while it is recorded', {
      hint: 'return the tensor and read it outside',
    });
  }

  /** Updates are part of the program; they are not made. */
  stepping(): boolean {
    return true;
  }

  /** Optimizers count in tensors meanwhile. Others would do once what they should do in each run. */
  acting(action: HostAction<unknown>): undefined {
    if (action.snapshot === undefined) {
      throw this.#refusal(`does ${action.name}, which happens on the host`, {
        hint: 'a program holds tensors: do it outside of the function',
      });
    }
    this.#undo.push(action.snapshot());
  }

  leaving(action: HostAction<unknown>): () => void {
    // What is done once is done now, and seen by nobody.
    if (action.once === true) return () => undefined;
    throw this.#refusal(`leaves out ${action.name}, which a program cannot call`, {
      hint: 'pass what it gives as an argument',
    });
  }

  gradientRead(): void {}

  gradientWritten(holder: NodeHolder): void {
    if (this.#gradients.has(holder)) return;
    this.#gradients.add(holder);
    const tensor = holder as Tensor;
    const before = tensor.grad;
    this.#undo.push(() => {
      tensor.grad = before;
    });
  }

  drew(): void {}

  /** Puts back what changed on the host, the last first. Nobody is to compute what was built. */
  undo(): void {
    for (const node of this.#created) node.consumed = true;
    for (const undo of this.#undo.splice(0).toReversed()) undo();
  }

  #refusal(what: string, options: { readonly hint: string }): TraceError {
    const line = userLine();
    const place = line === '' ? '' : ` (at ${line})`;
    return new TraceError(`${this.#name} ${what}${place}`, { op: 'dump', ...options });
  }
}

/**
 * Calls `fn` on stand-ins and gives what it built to `use`. Then everything is as before: counts,
 * gradients, and the values of what was assigned to.
 *
 * @throws TraceError for what a program cannot do.
 */
export function recorded<T>(
  name: string,
  fn: (...args: readonly unknown[]) => unknown,
  args: readonly unknown[],
  use: (built: Recorded) => T,
): T {
  const { observers } = evaluator();
  // Nothing may be pending: what the function assigns to must be told from what stood before.
  engine().step();
  const earlier = new Set(evaluator().pendingAssignments());
  const assignments = (): Assignment[] =>
    evaluator()
      .pendingAssignments()
      .filter((assignment) => !earlier.has(assignment));
  const recording = new Recording(name);
  const program = new ProgramCounting();
  const before = { watched: watched.current, counting: counting.current };
  observers.push(recording);
  watched.current = recording;
  counting.current = program;
  let isRecording = true;
  const end = (): void => {
    if (!isRecording) return;
    isRecording = false;
    observers.splice(observers.indexOf(recording), 1);
    watched.current = before.watched;
    counting.current = before.counting;
  };
  try {
    const result = fn(...args);
    end();
    checkTensorTree(name, result);
    return use({ result, made: assignments(), counted: program.states });
  } finally {
    end();
    for (const { holder, storage } of assignments()) engine().replaced(holder, storage);
    recording.undo();
  }
}
