// Adapters of the family `vision`.

import { optionsOf } from './attributes.ts';
import { call } from './framework.ts';
import type { Adapter, AdapterTable } from './runner.ts';

/** All tensors by position, all attributes as options. */
function plain(name: string): Adapter {
  return (inputs, attrs) => call(name, ...inputs, optionsOf(attrs));
}

export const vision: AdapterTable = {
  roi_align: plain('roiAlign'),
  roi_pool: plain('roiPool'),
  nms: plain('nms'),
  batched_nms: plain('batchedNms'),
  box_area: plain('boxArea'),
  box_iou: plain('boxIou'),
  generalized_box_iou: plain('generalizedBoxIou'),
  box_convert: plain('boxConvert'),
  clip_boxes_to_image: plain('clipBoxesToImage'),
  deform_conv2d: ([x, offset, weight, bias, mask], attrs) =>
    call('deformConv2d', x, offset, weight, bias, {
      ...optionsOf(attrs),
      ...(mask === undefined ? {} : { mask }),
    }),
  sigmoid_focal_loss: plain('sigmoidFocalLoss'),
};
