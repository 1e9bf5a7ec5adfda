// Mixed precision: products in a half, what needs precision in float32, gradients scaled to fit.
export { autocast, type AutocastOptions, isAutocastEnabled } from './autocast.ts';
export { GradScaler, type GradScalerOptions, type GradScalerState } from './grad-scaler.ts';
