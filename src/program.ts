// Entry `tengen/program`: traced functions as graphs to look into, change, train further and dump.
export * from './interface/program/index.ts';
