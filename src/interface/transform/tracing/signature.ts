// What tells calls of a traced function apart: the form of the arguments, and modes that change what
// operations build.
import { isTracking } from '../../../graph/op.ts';
import { autocastDType } from '../../tensor/autocast.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { flattenTree, type SignatureOptions } from '../tree.ts';

export function signatureOf(
  args: readonly unknown[],
  options: SignatureOptions,
): { readonly signature: string; readonly tensors: Tensor[] } {
  const { signature, tensors } = flattenTree(args, options);
  const modes = `${isTracking() ? '' : 'noGrad '}${autocastDType() ?? ''}`;
  return { signature: `${modes}${signature}`, tensors };
}
