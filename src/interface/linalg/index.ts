// Decompositions, systems of equations, norms and functions of matrices: names as torch.linalg.
export { LinAlgError } from '../../base/errors.ts';
export { cross, matmul } from '../tensor/linear-algebra.ts';
export { diagonal } from '../tensor/shaping.ts';
export {
  cholesky,
  choleskyEx,
  type CholeskyOptions,
  choleskySolve,
  eig,
  eigh,
  eigvals,
  eigvalsh,
  lu,
  luFactor,
  type LUFactors,
  luSolve,
  qr,
  type QRMode,
  svd,
  svdvals,
  type TriangleOptions,
} from './decompositions.ts';
export {
  cond,
  det,
  logdet,
  matrixNorm,
  type MatrixOrder,
  matrixRank,
  norm,
  slogdet,
  vectorNorm,
} from './norms.ts';
export {
  matrixExp,
  matrixPower,
  multiDot,
  tensorinv,
  tensorsolve,
  vander,
  vecdot,
} from './products.ts';
export {
  inv,
  invEx,
  type LeastSquares,
  type LeastSquaresDriver,
  lstsq,
  pinv,
  solve,
  solveEx,
  type SolveOptions,
  solveTriangular,
  type ToleranceOptions,
  type TriangularOptions,
} from './solving.ts';
