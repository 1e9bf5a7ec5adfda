// What is said of the operations of a traced function in messages.
import { formatShape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';

/** One operation in words; `numbers` are those of its inputs. */
export function stepText(node: Node, isLeaf: boolean, numbers: readonly number[]): string {
  const type = `${node.dtype} ${formatShape(node.shape)}`;
  if (node.op.name === 'scalar' && node.storage === null) return `number ${node.dtype}`;
  if (isLeaf) return `input ${type}`;
  const attrs = Object.entries(node.attrs)
    .filter(([name]) => name !== 'shape' && name !== 'dtype')
    .map(([name, value]) => `${name}=${Array.isArray(value) ? formatShape(value) : String(value)}`)
    .join(' ');
  const inputs = numbers.map((number) => `#${number}`).join(' ');
  return `${node.op.name} ${type}${inputs === '' ? '' : ` of ${inputs}`}${attrs === '' ? '' : ` (${attrs})`}`;
}

/** ` (at file.ts:1:2)`, or nothing where the line is not known. */
export function placeText(line: string, words = 'at'): string {
  return line === '' ? '' : ` (${words} ${line})`;
}
