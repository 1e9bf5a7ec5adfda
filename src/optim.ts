// Entry 'tengen/optim'.
export * from './interface/optim/index.ts';
