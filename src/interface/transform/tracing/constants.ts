// Closed-over tensors as constants of a program: copies that nobody can change.
import type { Node } from '../../../graph/node.ts';
import { input } from '../../../graph/ops/leaf.ts';
import { Storage } from '../../../runtime/storage.ts';
import { evaluator } from '../install.ts';

/** A leaf with a copy of the value of a stored node. What depends on such leaves alone is computed once. */
export function constantOf(node: Node): Node {
  const { shape, dtype, device } = node;
  const bytes = evaluator().readSync(node);
  const storage = new Storage(bytes.byteLength, bytes);
  storage.persistent = true;
  storage.label = 'a constant of a traced function';
  return input(storage, 0, shape, dtype, false, device);
}
