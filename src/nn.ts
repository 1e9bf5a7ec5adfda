// Entry 'tengen/nn': layers, containers, losses and initialization.
export * from './interface/nn/index.ts';
