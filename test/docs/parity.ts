// What PyTorch 1.13 and MegEngine export, and where Tengen has no counterpart of that name: why. Read by
// parity.test.ts, in both directions, so that neither a lost name nor one that came stays unnoticed.

/** Names of one namespace. */
export interface Namespace {
  /** Names that exist here too, in camelCase. */
  readonly present: string;
  /** By reason, those that do not. */
  readonly absent: Readonly<Record<string, string>>;
}

export const PYTORCH: Readonly<Record<string, Namespace>> = {
  torch: {
    present: `
abs acos acosh add addbmm addcdiv addcmul addmm addmv addr all allclose amax amin aminmax any
arange argmax argmin argsort argwhere asin asinh atan atan2 atanh atleast_1d atleast_2d
atleast_3d baddbmm bernoulli bilinear bincount bitwise_and bitwise_left_shift bitwise_not
bitwise_or bitwise_right_shift bitwise_xor block_diag bmm broadcast_shapes broadcast_tensors
broadcast_to bucketize cartesian_prod cat cdist ceil chunk clamp clone column_stack combinations
copysign corrcoef cos cosh count_nonzero cov cross cummax cummin cumprod cumsum
cumulative_trapezoid deg2rad detach diag diag_embed diagflat diagonal diagonal_scatter diff
digamma dist div dot dsplit dstack einsum eq equal erf erfc erfinv exp exp2 expm1 eye flatten
flip fliplr flipud float_power floor floor_divide fmax fmin fmod frac full full_like gather gcd
ge gt heaviside histc histogram hsplit hstack hypot i0 index_add index_copy index_fill index_put
index_reduce index_select inner is_tensor isclose isfinite isin isinf isnan isneginf isposinf
kron kthvalue lcm ldexp le lerp lgamma linspace log log10 log1p log2 logaddexp logaddexp2
logcumsumexp logical_and logical_not logical_or logical_xor logit logspace logsumexp lt
manual_seed masked_fill masked_scatter masked_select matmul max maximum mean median meshgrid min
minimum mm mode moveaxis movedim msort mul multinomial mv mvlgamma nan_to_num nanmean nanmedian
nanquantile nansum narrow ne neg nonzero norm normal ones ones_like outer pdist permute poisson
polygamma pow prod promote_types put quantile rad2deg rand rand_like randint randn randn_like
randperm ravel reciprocal relu remainder renorm repeat_interleave reshape roll rot90 round rsqrt
rsub scatter scatter_add scatter_reduce searchsorted select select_scatter sigmoid sign signbit
sin sinc sinh slice_scatter sort split sqrt square squeeze stack std std_mean sub sum swapaxes t
take take_along_dim tan tanh tensor tensor_split tensordot tile topk trace transpose trapezoid
tril tril_indices triu triu_indices trunc unbind unflatten unique unique_consecutive unsqueeze
vander var var_mean vsplit vstack where xlogy zeros zeros_like
`,
    absent: {
      'a second name of another function': `
absolute arccos arccosh arcsin arcsinh arctan arctan2 arctanh as_tensor asarray clamp_max
clamp_min clip concat concatenate divide fix ger greater greater_equal less less_equal multiply
negative not_equal positive range row_stack scalar_tensor split_with_sizes subtract swapdims
trapz true_divide vdot
`,
      'stands in F': `
adaptive_avg_pool1d adaptive_max_pool1d alpha_dropout avg_pool1d batch_norm
binary_cross_entropy_with_logits celu channel_shuffle conv1d conv2d conv3d conv_transpose1d
conv_transpose2d conv_transpose3d cosine_embedding_loss cosine_similarity ctc_loss dropout
embedding embedding_bag feature_alpha_dropout group_norm hardshrink hinge_embedding_loss
instance_norm kl_div layer_norm log_softmax margin_ranking_loss max_pool1d max_pool2d max_pool3d
pairwise_distance pixel_shuffle pixel_unshuffle poisson_nll_loss prelu rrelu selu softmax
threshold triplet_margin_loss
`,
      'complex numbers are pairs: tengen/fft': `
adjoint angle complex conj conj_physical imag is_complex is_conj is_neg isreal polar real sgn
`,
      "a library's or compiler's own entry, not called by users": `
affine_grid_generator autocast_decrement_nesting autocast_increment_nesting
batch_norm_backward_elemt batch_norm_backward_reduce batch_norm_elemt batch_norm_gather_stats
batch_norm_gather_stats_with_counts batch_norm_stats batch_norm_update_stats
compiled_with_cxx11_abi constant_pad_nd conv_tbc convolution cudnn_affine_grid_generator
cudnn_batch_norm cudnn_convolution cudnn_convolution_add_relu cudnn_convolution_relu
cudnn_convolution_transpose cudnn_grid_sampler cudnn_is_acceptable feature_dropout
frobenius_norm get_file_path grid_sampler grid_sampler_2d grid_sampler_3d gru gru_cell
import_ir_module import_ir_module_from_buffer init_num_threads is_vulkan_available
is_warn_always_enabled lstm lstm_cell max_pool1d_with_indices merge_type_from_type_comment
miopen_batch_norm miopen_convolution miopen_convolution_add_relu miopen_convolution_relu
miopen_convolution_transpose miopen_depthwise_convolution miopen_rnn mkldnn_adaptive_avg_pool2d
mkldnn_convolution mkldnn_linear_backward_weights mkldnn_max_pool2d mkldnn_max_pool3d
narrow_copy native_batch_norm native_channel_shuffle native_dropout native_group_norm
native_layer_norm native_norm norm_except_dim nuclear_norm parse_ir parse_schema
parse_type_comment prepare_multiprocessing_environment read_vitals rnn_relu rnn_relu_cell
rnn_tanh rnn_tanh_cell segment_reduce set_vital set_warn_always unify_type_list unsafe_chunk
unsafe_split unsafe_split_with_sizes vitals_enabled
`,
      'no tensor shares memory with another, so there is nothing to copy out of a view': `
alias_copy as_strided as_strided_copy as_strided_scatter detach_copy diagonal_copy expand_copy
permute_copy resolve_conj resolve_neg select_copy slice_copy split_copy split_with_sizes_copy
squeeze_copy t_copy transpose_copy unbind_copy unfold_copy unsqueeze_copy view_as_complex
view_as_complex_copy view_as_real view_as_real_copy view_copy
`,
      'tensors have no names of axes': `
align_tensors
`,
      'settings of the program: configure(), setPrecision(), setNumerics(), debug, noGrad()': `
are_deterministic_algorithms_enabled clear_autocast_cache fill get_autocast_cpu_dtype
get_autocast_gpu_dtype get_default_dtype get_deterministic_debug_mode
get_float32_matmul_precision get_num_interop_threads get_num_threads get_rng_state initial_seed
is_anomaly_check_nan_enabled is_anomaly_enabled is_autocast_cache_enabled
is_autocast_cpu_enabled is_autocast_enabled is_deterministic_algorithms_warn_only_enabled
is_grad_enabled is_inference_mode_enabled load save seed set_anomaly_enabled
set_autocast_cache_enabled set_autocast_cpu_dtype set_autocast_cpu_enabled set_autocast_enabled
set_autocast_gpu_dtype set_default_dtype set_default_tensor_type set_deterministic_debug_mode
set_float32_matmul_precision set_flush_denormal set_num_interop_threads set_num_threads
set_printoptions set_rng_state use_deterministic_algorithms
`,
      'stands in tengen/fft': `
bartlett_window blackman_window hamming_window hann_window istft kaiser_window stft
`,
      'rarely met: written with a line of what is there': `
binomial frexp gradient histogramdd igamma igammac lobpcg nextafter pca_lowrank randint_like
svd_lowrank
`,
      'a property or method of tensors: dtype, shape, size, item()': `
can_cast get_device is_distributed is_floating_point is_inference is_nonzero is_same_size
is_signed is_storage numel result_type
`,
      'there are no sparse tensors': `
ccol_indices_copy col_indices_copy crow_indices_copy dsmm hsmm hspmm indices_copy
row_indices_copy saddmm smm sparse_bsc_tensor sparse_bsr_tensor sparse_compressed_tensor
sparse_coo_tensor sparse_csc_tensor sparse_csr_tensor spmm sspaddmm values_copy
`,
      'stands in tengen/linalg': `
chain_matmul cholesky cholesky_inverse cholesky_solve det eig geqrf inverse logdet lstsq lu
lu_solve lu_unpack matrix_exp matrix_power matrix_rank orgqr ormqr pinverse qr slogdet solve svd
symeig triangular_solve
`,
      'quantization is work of its own': `
dequantize empty_quantized fake_quantize_per_channel_affine fake_quantize_per_tensor_affine
fbgemm_linear_fp16_weight fbgemm_linear_fp16_weight_fp32_activation fbgemm_linear_int8_weight
fbgemm_linear_int8_weight_fp32_activation fbgemm_linear_quantize_weight
fbgemm_pack_gemm_matrix_fp16 fbgemm_pack_quantized_matrix fused_moving_avg_obs_fake_quant
int_repr q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point
quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic quantized_batch_norm
quantized_gru quantized_gru_cell quantized_lstm quantized_lstm_cell quantized_max_pool1d
quantized_max_pool2d quantized_rnn_relu_cell quantized_rnn_tanh_cell choose_qparams_optimized
`,
      'nothing is left undefined: zeros()': `
empty empty_like empty_strided
`,
      'tensors are made of typed arrays': `
from_dlpack from_file from_numpy frombuffer to_dlpack
`,
    },
  },
  'torch.nn.functional': {
    present: `
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
adaptive_max_pool2d adaptive_max_pool3d affine_grid alpha_dropout avg_pool1d avg_pool2d
avg_pool3d batch_norm bilinear binary_cross_entropy binary_cross_entropy_with_logits celu
channel_shuffle conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
cosine_embedding_loss cosine_similarity cross_entropy ctc_loss dropout dropout1d dropout2d
dropout3d elu embedding embedding_bag feature_alpha_dropout fold fractional_max_pool2d
gaussian_nll_loss gelu glu grid_sample group_norm gumbel_softmax hardshrink hardsigmoid
hardswish hardtanh hinge_embedding_loss huber_loss instance_norm interpolate kl_div l1_loss
layer_norm leaky_relu linear local_response_norm log_softmax logsigmoid lp_pool1d lp_pool2d
margin_ranking_loss max_pool1d max_pool2d max_pool3d max_unpool1d max_unpool2d max_unpool3d mish
mse_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss nll_loss normalize
one_hot pad pairwise_distance pdist pixel_shuffle pixel_unshuffle poisson_nll_loss prelu relu
relu6 rrelu selu sigmoid silu smooth_l1_loss soft_margin_loss softmax softmin softplus
softshrink softsign tanh tanhshrink threshold triplet_margin_loss
triplet_margin_with_distance_loss unfold
`,
    absent: {
      "a library's or compiler's own entry, not called by users": `
adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
adaptive_max_pool3d_with_indices conv_tbc fractional_max_pool2d_with_indices
max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
multi_head_attention_forward native_channel_shuffle
`,
      'not there yet': `
fractional_max_pool3d fractional_max_pool3d_with_indices
`,
      'a second name of another function': `
upsample upsample_bilinear upsample_nearest
`,
    },
  },
  'torch.nn': {
    present: `
AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveLogSoftmaxWithLoss
AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d
BCELoss BCEWithLogitsLoss BatchNorm1d BatchNorm2d BatchNorm3d Bilinear CELU CTCLoss
ChannelShuffle ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose1d
ConvTranspose2d ConvTranspose3d CosineEmbeddingLoss CosineSimilarity CrossEntropyLoss Dropout
Dropout1d Dropout2d Dropout3d ELU Embedding EmbeddingBag FeatureAlphaDropout Flatten Fold
FractionalMaxPool2d GELU GLU GRU GRUCell GaussianNLLLoss GroupNorm Hardshrink Hardsigmoid
Hardswish Hardtanh HingeEmbeddingLoss HuberLoss Identity InstanceNorm1d InstanceNorm2d
InstanceNorm3d KLDivLoss L1Loss LPPool1d LPPool2d LSTM LSTMCell LayerNorm LeakyReLU Linear
LocalResponseNorm LogSigmoid LogSoftmax MSELoss MarginRankingLoss MaxPool1d MaxPool2d MaxPool3d
MaxUnpool1d MaxUnpool2d MaxUnpool3d Mish Module ModuleDict ModuleList MultiLabelMarginLoss
MultiLabelSoftMarginLoss MultiMarginLoss MultiheadAttention NLLLoss PReLU PairwiseDistance
Parameter ParameterDict ParameterList PixelShuffle PixelUnshuffle PoissonNLLLoss RNN RNNCell
RReLU ReLU ReLU6 ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d
ReplicationPad2d ReplicationPad3d SELU Sequential SiLU Sigmoid SmoothL1Loss SoftMarginLoss
Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold Transformer
TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer
TripletMarginLoss TripletMarginWithDistanceLoss Unflatten Unfold Upsample UpsamplingBilinear2d
SyncBatchNorm UpsamplingNearest2d ZeroPad2d
`,
    absent: {
      "a library's or compiler's own entry, not called by users": `
Container RNNBase RNNCellBase UninitializedBuffer UninitializedParameter
`,
      'a second name of another function': `
CrossMapLRN2d NLLLoss2d
`,
      'one process has one device; training on several is work of its own': `
DataParallel
`,
      'not there yet': `
FractionalMaxPool3d
`,
      'shapes of parameters are said when a layer is made': `
LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d LazyConv1d LazyConv2d LazyConv3d
LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d LazyInstanceNorm1d
LazyInstanceNorm2d LazyInstanceNorm3d LazyLinear
`,
    },
  },
  'torch.optim': {
    present: `
ASGD Adadelta Adagrad Adam AdamW Adamax LBFGS NAdam Optimizer RAdam RMSprop Rprop SGD
`,
    absent: {
      'there are no sparse tensors': `
SparseAdam
`,
    },
  },
  'torch.optim.lr_scheduler': {
    present: `
ChainedScheduler ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR
LambdaLR LinearLR MultiStepLR MultiplicativeLR OneCycleLR Optimizer PolynomialLR
ReduceLROnPlateau SequentialLR StepLR
`,
    absent: {},
  },
  'torch.linalg': {
    present: `
cholesky cholesky_ex cond cross det diagonal eig eigh eigvals eigvalsh inv inv_ex lstsq lu
lu_factor lu_solve matmul matrix_exp matrix_norm matrix_power matrix_rank multi_dot norm pinv qr
slogdet solve solve_ex solve_triangular svd svdvals tensorinv tensorsolve vander vecdot
vector_norm
`,
    absent: {
      'not there yet': `
householder_product ldl_factor ldl_factor_ex ldl_solve lu_factor_ex
`,
    },
  },
  'torch.fft': {
    present: `
fft fft2 fftfreq fftn fftshift hfft hfft2 hfftn ifft ifft2 ifftn ifftshift ihfft ihfft2 ihfftn
irfft irfft2 irfftn rfft rfft2 rfftfreq rfftn
`,
    absent: {},
  },
  'torch.special': {
    present: `
digamma entr erf erfc erfinv exp2 expm1 i0 i0e i1 i1e log1p log_ndtr logit logsumexp ndtr
polygamma round sinc xlog1py xlogy
`,
    absent: {
      'a special function that models do not meet': `
airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 chebyshev_polynomial_t chebyshev_polynomial_u
chebyshev_polynomial_v chebyshev_polynomial_w erfcx gammainc gammaincc hermite_polynomial_h
hermite_polynomial_he laguerre_polynomial_l legendre_polynomial_p modified_bessel_i0
modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 ndtri scaled_modified_bessel_k0
scaled_modified_bessel_k1 shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u
shifted_chebyshev_polynomial_v shifted_chebyshev_polynomial_w spherical_bessel_j0 zeta
`,
      'a second name of another function': `
expit gammaln multigammaln psi
`,
      'stands in F': `
log_softmax softmax
`,
    },
  },
  'torchvision.ops': {
    present: `
DeformConv2d batched_nms box_area box_convert box_iou clip_boxes_to_image deform_conv2d
generalized_box_iou nms ps_roi_align ps_roi_pool remove_small_boxes roi_align roi_pool
sigmoid_focal_loss
`,
    absent: {
      'not there yet: parts of detectors': `
Conv2dNormActivation Conv3dNormActivation DropBlock2d DropBlock3d FeaturePyramidNetwork
FrozenBatchNorm2d MLP MultiScaleRoIAlign PSRoIAlign PSRoIPool Permute RoIAlign RoIPool
SqueezeExcitation StochasticDepth complete_box_iou complete_box_iou_loss distance_box_iou
distance_box_iou_loss drop_block2d drop_block3d generalized_box_iou_loss masks_to_boxes
stochastic_depth
`,
    },
  },
  'torch.nn.init': {
    present: `
calculate_gain constant dirac eye kaiming_normal kaiming_uniform normal ones orthogonal sparse
trunc_normal uniform xavier_normal xavier_uniform zeros
`,
    absent: {},
  },
  'torch.nn.utils': {
    present: `
clip_grad_norm clip_grad_value fuse_conv_bn_eval parameters_to_vector spectral_norm
vector_to_parameters weight_norm
`,
    absent: {
      "layouts are the compiler's business": `
convert_conv2d_weight_memory_format
`,
      'removed by the methods of nn.parametrize': `
remove_spectral_norm remove_weight_norm
`,
      'nn.init.skip builds without drawing': `
skip_init
`,
      'fuseConvBnEval takes the layers themselves': `
fuse_conv_bn_weights
`,
    },
  },
};

/** Modules of MegEngine; those of other names here stand in `MEGENGINE_RENAMED`. */
export const MEGENGINE: Namespace = {
  present: `
ReLU LeakyReLU PReLU Sigmoid SiLU GELU Softmax Conv1d Conv2d Conv3d ConvTranspose2d
ConvTranspose3d LocalConv2d ConvRelu2d ConvBn2d ConvBnRelu2d ConvTransposeRelu2d
ConvTransposeBn2d ConvTransposeBnRelu2d Linear LinearRelu LinearBn1d LinearBnRelu1d
BatchMatMulActivation BatchNorm1d BatchNorm2d GroupNorm LayerNorm LocalResponseNorm MaxPool2d
AvgPool2d AdaptiveMaxPool2d AdaptiveAvgPool2d RNNCell LSTMCell RNN LSTM Embedding Identity
Sequential Dropout PixelShuffle Concat Elemwise SyncBatchNorm RegionRestrictedConv GeneralNorm
AdditiveLaplaceNoise AdditivePoissonNoise AdditiveGaussianNoise Emboss Sharpen LinearContrast
Mixup Cutmix CropAndPad Flip RandomHorizontalFlip RandomVerticalFlip Resize Rot90 Rotate Remap
GaussianBlur Dilation FillPoly
`,
  absent: {
    'quantization is work of its own': `
QuantStub DequantStub
`,
    "a vendor's program as an operation": `
ExternOprSubgraph TensorrtRuntimeSubgraph CambriconRuntimeSubgraph AtlasRuntimeSubgraph
MagicMindRuntimeSubgraph
`,
  },
};

export const MEGENGINE_RENAMED: Readonly<Record<string, string>> = {
  DeformableConv2d: 'DeformConv2d',
  DeformablePSROIPooling: 'DeformPSRoIPool',
  InstanceNorm: 'InstanceNorm2d',
  MultiHeadAttention: 'MultiheadAttention',
  Pad: 'ConstantPad2d',
  SlidingWindow: 'Unfold',
  SlidingWindowTranspose: 'Fold',
};
