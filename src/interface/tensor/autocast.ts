// Which operations compute in a half and which in float32 while mixed precision is on. The lists are
// PyTorch's; what is in neither follows the promotion of its operands.
import { type DType, isFloat } from '../../base/dtype.ts';
import type { Node } from '../../graph/node.ts';
import { castNode } from './handle.ts';

/** The words of a text. */
function words(text: string): ReadonlySet<string> {
  return new Set(text.trim().split(/\s+/));
}

/** Products: most of the arithmetic, and safe in a half, since they sum in float32. */
const LOW: ReadonlySet<string> = words(`
  matmul mm bmm mv addmm addmv baddbmm linear einsum tensordot conv1d conv2d conv3d
  convTranspose1d convTranspose2d convTranspose3d localConv2d deformConv2d
  scaledDotProductAttention prelu rnnTanh rnnRelu gru lstm rnnTanhCell rnnReluCell gruCell
  lstmCell
`);

/** Sums and means, what grows or shrinks fast, norms and losses. */
const HIGH: ReadonlySet<string> = words(`
  exp exp2 expm1 log log2 log10 log1p pow reciprocal rsqrt acos asin cosh sinh tan erfinv
  logit lgamma digamma softplus sum prod mean var std varMean stdMean norm logsumexp
  cumsum cumprod logcumsumexp softmax logSoftmax softmin cdist renorm layerNorm rmsNorm
  groupNorm instanceNorm localResponseNorm normalize cosineSimilarity pairwiseDistance
  crossEntropy nllLoss mseLoss l1Loss smoothL1Loss huberLoss binaryCrossEntropy
  binaryCrossEntropyWithLogits klDiv poissonNllLoss gaussianNllLoss hingeEmbeddingLoss
  marginRankingLoss ctcLoss cosineEmbeddingLoss tripletMarginLoss softMarginLoss
  multiMarginLoss multilabelMarginLoss multilabelSoftMarginLoss
`);

/** The half that products are computed in now, or null where mixed precision is off. */
let low: 'float16' | 'bfloat16' | null = null;

/** Runs `body` with products in `dtype`, or with every operation as it is written. */
export function withAutocast<T>(dtype: 'float16' | 'bfloat16' | null, body: () => T): T {
  const before = low;
  low = dtype;
  try {
    return body();
  } finally {
    low = before;
  }
}

/** The half in force, or null. */
export function autocastDType(): 'float16' | 'bfloat16' | null {
  return low;
}

export function isHalf(dtype: DType): boolean {
  return dtype === 'float16' || dtype === 'bfloat16';
}

/** Halves as float32; others as they are. */
export function widened(node: Node): Node {
  return isHalf(node.dtype) ? castNode(node, 'float32') : node;
}

/** An operand of `op` in the dtype that mixed precision gives it. float64 is left alone. */
export function autocast(op: string, node: Node): Node {
  if (low === null || !isFloat(node.dtype) || node.dtype === 'float64') return node;
  if (LOW.has(op)) return castNode(node, low);
  return HIGH.has(op) ? widened(node) : node;
}

/** What `build` makes of a node, in the node's dtype, but computed in float32 where that is a half. */
export function inFloat32(node: Node, build: (node: Node) => Node): Node {
  return isHalf(node.dtype) ? castNode(build(castNode(node, 'float32')), node.dtype) : build(node);
}
