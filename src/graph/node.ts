// The graph's one node class: what is computed, from what, and (once known) where its value is.
import type { DType } from '../base/dtype.ts';
import type { Shape } from '../base/shape.ts';
import type { Attrs, OpDef } from './op.ts';

/**
 * A place that holds a value for longer than one plan. What is inside belongs to the evaluator;
 * the graph only hands it around.
 */
export interface StorageToken {
  readonly storageId: number;
  /** Whether a leaf was made on it: others may read it than the node that computed it. */
  aliased?: boolean;
}

/** Names the run in which a value was computed but not kept, and its position in that run. */
export interface Origin {
  readonly runId: number;
}

let nextId = 1;

/** Every field is set here, in this order, so that V8 sees one shape. */
export class Node {
  readonly id: number;
  readonly op: OpDef;
  /** Emptied when a value is known and no gradient can ask for its history. */
  inputs: readonly Node[];
  readonly attrs: Attrs;
  readonly shape: Shape;
  readonly dtype: DType;
  /**
   * Whether a gradient may flow through this node: an input is tracked. An assignment makes the new
   * value of a parameter tracked, though it was computed without history.
   */
  tracked: boolean;
  /** Name of the device the value lives on, or null for "wherever it is used". */
  readonly device: string | null;
  /** Value of a scalar slot: not part of the key, so changing it never recompiles. */
  value: number;
  /** Where the value is, if it is known: then the node is a leaf of later plans. */
  storage: StorageToken | null;
  /** The version of `storage` that holds this node's value. */
  version: number;
  /** The run that computed this node without keeping it. */
  origin: Origin | null;
  /** Position in `origin`'s linearization. */
  originPosition: number;
  /** Whether another node or an assignment uses this one. */
  consumed: boolean;
  /** Nodes best computed together with this one: gradients of one result share a pass. */
  siblings: readonly Node[] | null;
  /** Walk bookkeeping: the last walk that saw this node, and its position in it. */
  mark: number;
  position: number;

  constructor(
    op: OpDef,
    inputs: readonly Node[],
    attrs: Attrs,
    shape: Shape,
    dtype: DType,
    tracked: boolean,
    device: string | null,
  ) {
    this.id = nextId++;
    this.op = op;
    this.inputs = inputs;
    this.attrs = attrs;
    this.shape = shape;
    this.dtype = dtype;
    this.tracked = tracked;
    this.device = device;
    this.value = 0;
    this.storage = null;
    this.version = 0;
    this.origin = null;
    this.originPosition = -1;
    this.consumed = false;
    this.siblings = null;
    this.mark = 0;
    this.position = -1;
  }
}

let lastMark = 0;

/** A number no walk has used yet. */
export function newMark(): number {
  return ++lastMark;
}
