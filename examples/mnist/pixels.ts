// How images become numbers: the same in training and afterwards.
import { transforms } from 'tengen/data';

/** Grey levels about 0, by mean and deviation of MNIST's pixels. */
export const greyLevels = transforms.compose(
  transforms.toFloat(),
  transforms.normalize(0.1307, 0.3081),
);
