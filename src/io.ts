// Entry `tengen/io`: safetensors files, state dicts and checkpoints.
export * from './interface/io/index.ts';
