// Entry 'tengen/linalg': decompositions, systems of equations, norms and functions of matrices.
export * from './interface/linalg/index.ts';
