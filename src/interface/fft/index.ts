// Fourier transforms, short-time spectra, windows, and complex numbers as pairs.
export { angle, complex, complexAbs, complexMul, conj, imag, polar, real } from './complex.ts';
export { fftfreq, fftshift, ifftshift, rfftfreq } from './frequencies.ts';
export { istft, type ISTFTOptions, stft, type STFTOptions } from './stft.ts';
export {
  fft,
  fft2,
  fftn,
  type FFTNorm,
  type FFTOptions,
  hfft,
  hfft2,
  hfftn,
  ifft,
  ifft2,
  ifftn,
  ihfft,
  ihfft2,
  ihfftn,
  irfft,
  irfft2,
  irfftn,
  rfft,
  rfft2,
  rfftn,
} from './transforms.ts';
export {
  bartlettWindow,
  blackmanWindow,
  hammingWindow,
  hannWindow,
  kaiserWindow,
  type WindowOptions,
} from './windows.ts';
