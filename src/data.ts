// Entry `tengen/data`: datasets, samplers, transforms and the DataLoader.
export * from './interface/data/index.ts';
