// Every primitive of the graph, as functions from nodes to nodes.
export * from './arithmetic.ts';
export * from './binary.ts';
export * from './bitwise.ts';
export * from './broadcast.ts';
export * from './cast.ts';
export * from './compare.ts';
export * from './copy.ts';
export * from './convolution.ts';
export * from './creation.ts';
export * from './leaf.ts';
export * from './math.ts';
export * from './matmul.ts';
export * from './permute.ts';
export * from './reduce.ts';
export * from './scan.ts';
export * from './slicing.ts';
export * from './unary.ts';
