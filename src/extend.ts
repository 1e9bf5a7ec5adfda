// Entry `tengen/extend`: what a package needs to bring operations of its own.
export * from './interface/extend/index.ts';
