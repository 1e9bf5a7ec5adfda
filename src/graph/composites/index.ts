// Functions made of primitives, from nodes to nodes: the interface and its layers share them.
export * from './masks.ts';
export * from './pooling.ts';
export * from './random.ts';
export * from './scatter.ts';
export * from './softmax.ts';
export * from './statistics.ts';
