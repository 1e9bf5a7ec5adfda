// The Tensor class: its last methods, and the constructor that handles are made with.
import type { DType } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import { backward, type BackwardOptions } from './backward.ts';
import * as conversion from './conversion.ts';
import { describeTensor, format, type FormatOptions, inspectTensor } from './format.ts';
import { setTensorConstructor } from './handle.ts';
import { IndexMethods } from './index-methods.ts';

/**
 * An n-dimensional array: a handle on an immutable graph node, computed when its value is needed
 * (docs/deferred.md). Arithmetic is by methods or by free functions of the same names.
 *
 * @example
 * ```ts
 * const x = tensor([[1, 2], [3, 4]]);
 * x.mul(2).add(1); // => [[3, 5], [7, 9]]
 * await x.sum(1).array(); // => [3, 7]
 * x.at(':', 0); // => [1, 3]
 * ```
 */
export class Tensor extends IndexMethods {
  // ---- gradients ------------------------------------------------------------------------------

  /** Adds the gradients of this result to `grad` of every parameter it was made from. */
  backward(options?: BackwardOptions): void {
    backward(this, options);
  }
  /** The same value cut off from its history. */
  detach(): Tensor {
    return conversion.detach(this);
  }

  // ---- conversion -----------------------------------------------------------------------------

  /** In another dtype, or on another device. */
  to(target: DType | (string & {})): Tensor {
    return conversion.to(this, target);
  }
  /** As float32. */
  float(): Tensor {
    return conversion.to(this, 'float32');
  }
  /** As float64. */
  double(): Tensor {
    return conversion.to(this, 'float64');
  }
  /** As float16. */
  half(): Tensor {
    return conversion.to(this, 'float16');
  }
  /** As int32; fractions are cut off. */
  int(): Tensor {
    return conversion.to(this, 'int32');
  }
  /** As bool: whether an element is nonzero. */
  bool(): Tensor {
    return conversion.to(this, 'bool');
  }
  /** The same value as a tensor of its own. */
  clone(): Tensor {
    return conversion.clone(this);
  }

  // ---- reading --------------------------------------------------------------------------------

  /** The only element, as a number. */
  item(): Promise<number> {
    return conversion.item(this);
  }
  /** As `item`, at once. */
  itemSync(): number {
    return conversion.itemSync(this);
  }
  /** The values in nested arrays. */
  array(): Promise<conversion.NestedValues> {
    return conversion.array(this);
  }
  /** As `array`, at once. */
  arraySync(): conversion.NestedValues {
    return conversion.arraySync(this);
  }

  /**
   * The slices along the first axis, as PyTorch's: `for (const row of x)`, `const [a, b] = x`.
   * Each is made when its turn comes. Throws ShapeError for a tensor without axes.
   */
  *[Symbol.iterator](): Generator<Tensor, void, undefined> {
    const [length] = this.shape;
    if (length === undefined) {
      throw new ShapeError('a tensor without axes has no slices to go through', {
        op: 'Tensor',
        hint: 'read its number with itemSync()',
      });
    }
    for (let index = 0; index < length; index++) yield this.select(0, index);
  }
  /** What `JSON.stringify` writes: the values as `arraySync` gives them. NaN becomes null there. */
  toJSON(): conversion.NestedValues {
    return conversion.arraySync(this);
  }

  // ---- text -----------------------------------------------------------------------------------

  /** The values as text, long axes shortened. */
  format(options?: FormatOptions): Promise<string> {
    return format(this, options);
  }
  /** Prints dtype, shape and values. */
  async print(options?: FormatOptions): Promise<void> {
    const text = await format(this, options);
    // oxlint-disable-next-line no-console -- printing is what this method is for
    console.log(`${describeTensor(this)}\n${text}`);
  }
  /** Dtype and shape, without computing anything. */
  override toString(): string {
    return describeTensor(this);
  }
  /** `${x}` is text; `x * 2` is a mistake, since operators cannot be overloaded. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint !== 'number') return describeTensor(this);
    throw new ArgumentError('operators do not work on tensors', {
      op: 'Tensor',
      hint: 'write a.add(b), a.mul(b), a.lt(b); read one number with itemSync()',
    });
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return inspectTensor(this);
  }
}

/** Makes handles Tensors. A call and not a side effect of this module, which bundlers may drop. */
export function installTensor(): void {
  setTensorConstructor((node: Node) => new Tensor(node));
}
