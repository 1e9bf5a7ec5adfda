// Who sees what is built and computed: traces, exports. And what they look away from.
import type { Node } from '../../graph/node.ts';
import type { Device } from '../../runtime/device.ts';
import { type HostAction, type NodeHolder, watched } from '../tensor/engine.ts';
import type { Assignment, Entry } from './entry.ts';

/** Sees what is built and computed: tracing. */
export interface EvaluationObserver {
  /** A result was made by the public interface. */
  created?(node: Node): void;
  /** `assignment` is about to be noted: its holder still has the old value. */
  assigned?(assignment: Assignment): void;
  /** The value of a tensor was replaced from the host. */
  replaced?(holder: NodeHolder): void;
  /** The next plan that computes `node` is to keep it. */
  kept?(node: Node): void;
  /** Values are about to be computed and read; in the `background` nobody waits. May throw. */
  reading?(nodes: readonly Node[], background: boolean): void;
  /** A step is asked for. True if it will be made later. */
  stepping?(): boolean;
  /** A plan has run. */
  ran?(entry: Entry, device: Device): void;
  /**
   * An action on the host begins, which this observer does not see; the function is called at its end.
   * Undefined: it sees the action.
   */
  acting?(action: HostAction<unknown>): ((result: unknown) => void) | undefined;
  /** As `acting`, for what is no part of the program. */
  leaving?(action: HostAction<unknown>): (result: unknown) => void;
}

/** Runs `action` while those observers look away that have something to say about it. */
export function unseen<T>(
  observers: EvaluationObserver[],
  action: HostAction<T>,
  how: 'acting' | 'leaving',
): T {
  if (observers.length === 0) return action.run(action.inputs);
  const before = [...observers];
  const endings: ((result: unknown) => void)[] = [];
  observers.length = 0;
  const { current } = watched;
  for (const observer of before) {
    const ending = observer[how]?.(action);
    if (ending === undefined) observers.push(observer);
    else endings.push(ending);
  }
  if (endings.length > 0) watched.current = null;
  let result: T;
  try {
    result = action.run(action.inputs);
  } finally {
    observers.splice(0, observers.length, ...before);
    watched.current = current;
  }
  for (const ending of endings) ending(result);
  return result;
}
