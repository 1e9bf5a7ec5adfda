// Reverse mode: walks the graph backwards and lets each op's rule emit the gradient as graph, so
// that gradients can be differentiated again.
import { internalError, TengenError } from '../../base/errors.ts';
import { sameShape } from '../../base/shape.ts';
import { newMark, type Node } from '../node.ts';
import { add } from '../ops/arithmetic.ts';
import { sumTo } from '../ops/broadcast.ts';

/**
 * Gradients of `sum(outputs[i] * cotangents[i])` by each of `targets`; null where no path leads.
 * Throws when a path runs through an op that has no derivative.
 *
 * @param given values beyond which nothing is looked at: those that a body is given.
 */
export function gradients(
  outputs: readonly Node[],
  cotangents: readonly Node[],
  targets: readonly Node[],
  given: ReadonlySet<Node> = new Set(),
): (Node | null)[] {
  const order = nodesTowards(outputs, targets, given);
  const gradOf = new Map<Node, Node>();
  const gradsOf = new Map<Node, (Node | null)[]>();
  outputs.forEach((output, i) => {
    if (order.has(output)) accumulate(gradOf, output, cotangents[i] as Node);
  });
  // A Set iterates in insertion order: inputs first. Reverse it.
  for (const node of [...order].reverse()) {
    const grad = gradOf.get(node);
    if (grad === undefined || node.inputs.length === 0 || given.has(node)) continue;
    if (node.op.lower.kind === 'result') {
      const region = node.inputs[0] as Node;
      const grads = gradsOf.get(region) ?? [];
      const index = node.attrs['index'] as number;
      const known = grads[index] ?? null;
      grads[index] = known === null ? grad : add(known, grad);
      gradsOf.set(region, grads);
      gradOf.set(region, grad);
      continue;
    }
    const wanted = node.inputs.map((input) => order.has(input));
    if (!wanted.includes(true)) continue;
    const rule = node.op.gradient;
    if (typeof rule !== 'function') {
      throw new TengenError(`has no gradient: ${rule.nonDifferentiable}`, {
        op: node.op.name,
        hint: 'detach() the value if no gradient should flow through it',
      });
    }
    const results = rule({
      node,
      attrs: node.attrs,
      inputs: node.inputs,
      grad,
      grads: gradsOf.get(node) ?? [],
      needs: (index) => wanted[index] === true,
    });
    node.inputs.forEach((input, i) => {
      const result = results[i];
      if (wanted[i] && result !== null && result !== undefined) accumulate(gradOf, input, result);
    });
  }
  return targets.map((target) => gradOf.get(target) ?? null);
}

function accumulate(gradOf: Map<Node, Node>, node: Node, grad: Node): void {
  const fitted = sameShape(grad.shape, node.shape) ? grad : sumTo(grad, node.shape);
  if (fitted.dtype !== node.dtype) {
    throw internalError(`gradient of ${node.op.name} is ${fitted.dtype}, not ${node.dtype}`);
  }
  const known = gradOf.get(node);
  gradOf.set(node, known === undefined ? fitted : add(known, fitted));
}

/** Nodes on a path from a target to an output, inputs first. Iterative: graphs can be deep. */
function nodesTowards(
  outputs: readonly Node[],
  targets: readonly Node[],
  given: ReadonlySet<Node>,
): Set<Node> {
  const mark = newMark();
  const useful = new Set<Node>();
  const isTarget = new Set(targets);
  const ordered = new Set<Node>();
  const stack: { node: Node; next: number }[] = [];
  for (const output of outputs) {
    if (output.mark === mark || !(output.tracked || isTarget.has(output))) continue;
    output.mark = mark;
    stack.push({ node: output, next: 0 });
    while (stack.length > 0) {
      const top = stack[stack.length - 1] as { node: Node; next: number };
      const { node } = top;
      if (top.next < node.inputs.length && !given.has(node)) {
        const input = node.inputs[top.next++] as Node;
        // What is not tracked was detached, or is data: no gradient flows through it.
        if (input.mark !== mark && (input.tracked || isTarget.has(input))) {
          input.mark = mark;
          stack.push({ node: input, next: 0 });
        }
        continue;
      }
      stack.pop();
      const leads = !given.has(node) && node.inputs.some((input) => useful.has(input));
      if (isTarget.has(node) || leads) {
        useful.add(node);
        ordered.add(node);
      }
    }
  }
  return ordered;
}
