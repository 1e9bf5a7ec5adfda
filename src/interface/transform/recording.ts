// A program as it was recorded, and what differs from it: the comparison behind `trace`.
import { TraceError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Linearization } from '../../graph/linearize.ts';
import type { Node } from '../../graph/node.ts';

/** Where nodes were made: each entry covers the nodes up to its id. */
export interface Origins {
  readonly ids: number[];
  readonly lines: string[];
}

/** One program: the key that must come back, and its operations for messages. */
export interface Program {
  readonly key: Int32Array;
  readonly steps: readonly string[];
  readonly lines: readonly string[];
}

/** The line on which a node was made; composites end with the result that the user sees. */
function lineOf(origins: Origins, node: Node): string {
  const at = origins.ids.findIndex((id) => id >= node.id);
  return at < 0 ? '' : (origins.lines[at] as string);
}

/** One operation in words: equal words mean an equal part of the program. */
function stepText(node: Node): string {
  const type = `${node.dtype} ${formatShape(node.shape)}`;
  if (node.storage !== null) return `input ${type}`;
  if (node.op.name === 'scalar') return `number ${node.dtype}`;
  const attrs = Object.entries(node.attrs)
    .filter(([name]) => name !== 'shape' && name !== 'dtype')
    .map(([name, value]) => `${name}=${Array.isArray(value) ? formatShape(value) : String(value)}`)
    .join(' ');
  const inputs = node.inputs.map((input) => `#${input.position}`).join(' ');
  return `${node.op.name} ${type}${inputs === '' ? '' : ` of ${inputs}`}${attrs === '' ? '' : ` (${attrs})`}`;
}

/** Takes down a complete linearization. */
export function recordProgram(program: Linearization, origins: Origins): Program {
  return {
    key: program.key.words.slice(0, program.key.length),
    steps: program.nodes.map(stepText),
    lines: program.nodes.map((node) => lineOf(origins, node)),
  };
}

/** Whether a linearization is the recorded program; numbers may differ, they are slots. */
export function sameProgram(recorded: Program, program: Linearization): boolean {
  const { words, length } = program.key;
  const { key } = recorded;
  if (key.length !== length) return false;
  for (let i = 0; i < length; i++) if (words[i] !== key[i]) return false;
  return true;
}

/** What is different, in words, with the line on which it was recorded. */
export function describeChange(
  recorded: Program,
  program: Linearization,
  name: string,
): TraceError {
  const current = program.nodes.map(stepText);
  const longest = Math.max(current.length, recorded.steps.length);
  let at = 0;
  while (at < longest && current[at] === recorded.steps[at]) at++;
  const before = recorded.steps[at];
  const now = current[at];
  const line = recorded.lines[Math.min(at, recorded.lines.length - 1)] ?? '';
  const place = line === '' ? '' : ` (recorded at ${line})`;
  let what = 'other results are asked for than when it was recorded';
  if (now !== undefined && before !== undefined) what = `operation ${at} is ${now}, was ${before}`;
  else if (now !== undefined) what = `operation ${at}, ${now}, is new`;
  else if (before !== undefined) what = `operation ${at}, ${before}, is missing`;
  return new TraceError(`${name} built another program: ${what}${place}`, {
    op: 'trace',
    hint: 'keep what varies in tensors or numbers, or pass { retrace: true }',
  });
}
