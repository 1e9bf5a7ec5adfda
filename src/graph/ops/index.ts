// Every primitive of the graph, as functions from nodes to nodes.
export * from './arithmetic.ts';
export { attention, keptFactors } from './attention.ts';
export { drawnKeys } from './attention-head.ts';
export * from './binary.ts';
export * from './bitwise.ts';
export * from './broadcast.ts';
export * from './cast.ts';
export { checkedFactor } from './checked-factor.ts';
export * from './checked-index.ts';
export { cholesky, mirrorTriangle } from './cholesky.ts';
export * from './compare.ts';
export * from './copy.ts';
export * from './control-flow.ts';
export * from './convolution.ts';
export * from './cost-volume.ts';
export * from './creation.ts';
export * from './custom-gradient.ts';
export * from './indexing.ts';
export * from './leaf.ts';
export {
  diagonalOf,
  identity,
  lowerPart,
  matrixSizes,
  scaleAxis,
  squareSize,
  upperPart,
} from './matrix-parts.ts';
export { generalEigen } from './general-eigen.ts';
export { luDeterminant, luFactor, luInverse, luParts, luSolve, takeRows } from './lu.ts';
export * from './math.ts';
export * from './matmul.ts';
export * from './paths.ts';
export { matrixExponential } from './matrix-exponential.ts';
export * from './permute.ts';
export * from './pooling.ts';
export { pseudoInverse } from './pseudo-inverse.ts';
export { qr } from './qr.ts';
export * from './random.ts';
export * from './reduce.ts';
export * from './regions.ts';
export * from './result.ts';
export * from './scan.ts';
export * from './scatter-reduce.ts';
export * from './slicing.ts';
export * from './sorting.ts';
export { svd } from './singular-values.ts';
export { symmetricEigen } from './symmetric-eigen.ts';
export { triangularSolve } from './triangular.ts';
export * from './taps.ts';
export * from './unary.ts';
