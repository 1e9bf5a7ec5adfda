// Entry 'tengen/fft': Fourier transforms, short-time spectra and windows.
export * from './interface/fft/index.ts';
