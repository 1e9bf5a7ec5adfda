// Entry `tengen/io`: files of weights (safetensors, PyTorch, NumPy, GGUF), state dicts and checkpoints.
export * from './interface/io/index.ts';
