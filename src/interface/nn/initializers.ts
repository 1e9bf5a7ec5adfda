// How parameters start: what is exported as nn.init.
export * from './init.ts';
export * from './more-init.ts';
