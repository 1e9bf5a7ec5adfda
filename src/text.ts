// Entry `tengen/text`: language models.
export * from './interface/text/index.ts';
