// What a conversion is: from a primitive, with its typed attributes, to nodes of a file.
import type { DType } from '../../../base/dtype.ts';
import type { Node } from '../../../graph/node.ts';
import type { AttrSchema, AttrsOf } from '../../../graph/op.ts';
import type { Image, TracedGraph } from './graph.ts';
import type { Varying } from './sizes.ts';
import { type GraphWriter, NotExportable } from './writer.ts';

/** One primitive that is being converted. */
export interface Step<A> {
  readonly writer: GraphWriter;
  readonly node: Node;
  /** Attributes as they are in every trace; those that may vary are read with `vary`. */
  readonly attrs: A;
  /** Names of the operands' values. */
  readonly inputs: readonly string[];
  readonly graph: TracedGraph;
}

/** A row of the table of conversions. */
export interface Conversion {
  /** The primitive's attributes. A test compares them with its OpDef. */
  readonly attrs: AttrSchema;
  /** Writes the nodes; returns the name of the result. Throws NotExportable with the reason. */
  write(step: Omit<Step<unknown>, 'attrs'>): string;
}

export type Conversions = Readonly<Record<string, Conversion>>;

/**
 * A conversion of a primitive with these attributes. Those in `varying` may follow the sizes of dynamic
 * axes; the others are refused if they do.
 */
export function convert<const S extends AttrSchema>(
  attrs: S,
  write: (step: Step<AttrsOf<S>>) => string,
  varying: readonly (keyof S & string)[] = [],
): Conversion {
  return {
    attrs,
    write: (step) => {
      for (const name of Object.keys(attrs)) {
        if (!varying.includes(name)) checkFixed(step, name);
      }
      return write({ ...step, attrs: step.node.attrs as AttrsOf<S> });
    },
  };
}

function checkFixed({ graph, node }: Omit<Step<unknown>, 'attrs'>, name: string): void {
  const texts = graph.images(node).map(({ attrs }) => String(attrs[name]));
  if (texts.every((text) => text === texts[0])) return;
  throw new NotExportable(`its ${name} follows a dynamic axis (${texts.join(' and ')})`);
}

/** The sizes of a node's axes in every trace. */
export function sizesOf(graph: TracedGraph, node: Node): Varying[] {
  return node.shape.map((_, axis) => graph.vary(node, ({ shape }) => shape[axis] as number));
}

/** One entry of a list attribute in every trace. */
export function entriesOf(graph: TracedGraph, node: Node, name: string): Varying[] {
  const list = node.attrs[name] as readonly number[];
  return list.map((_, i) =>
    graph.vary(node, ({ attrs }: Image) => (attrs[name] as readonly number[])[i] as number),
  );
}

/** A conversion to one node with the same operands. */
export function direct(opType: string): Conversion {
  return convert({}, ({ writer, inputs }) => writer.add(opType, inputs));
}

/** Throws NotExportable unless the file's operator set has what is needed. */
export function needOpset(writer: GraphWriter, opset: number, what: string): void {
  if (writer.opset >= opset) return;
  throw new NotExportable(`${what} came with opset ${opset}: export with { opset: ${opset} }`);
}

/** dtype of an operand. */
export function inputDType(node: Node, index = 0): DType {
  return (node.inputs[index] as Node).dtype;
}
