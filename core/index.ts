// The public surface of samebits/core: tensors, packing, the reference, the backend seam, the case table.

export type {
  Backend,
  BackendName,
  BenchmarkSupport,
  DeviceBuffer,
  DeviceInfo,
  DeviceWeight,
  LinearOptions,
  PassedOver,
  Plan,
  PlanStep,
  UploadOptions,
} from './backend.js';
export { bf16FromF32Array, bf16FromNumber, numberFromBf16 } from './bf16.js';
export {
  ACCURACY_SETTINGS,
  type AccuracySetting,
  type LinearAccuracy,
  measureAccuracy,
  type SettingAccuracy,
} from './checkpoint/accuracy.js';
export {
  type ConversionControl,
  type ConversionPlan,
  type ConversionProgress,
  type ConversionReport,
  type ConvertedTensor,
  planConversion,
  runConversion,
} from './checkpoint/convert.js';
export { type DequantizedSource, dequantizedSource } from './checkpoint/dequantized_source.js';
export type { Dtype } from './checkpoint/dtypes.js';
export { type HttpOptions, httpFolder, openHttpSource } from './checkpoint/http_source.js';
export { type ImportOptions, LAYOUTS, type Layout } from './checkpoint/layout_choice.js';
export { type ModelCheckpoint, openModelCheckpoint } from './checkpoint/model_checkpoint.js';
export type { PackedShape } from './checkpoint/packed_parts.js';
export type { TensorInfo } from './checkpoint/safetensors_header.js';
export { openSafetensors, SafetensorsFile } from './checkpoint/safetensors_reader.js';
export type { SafetensorsPlan, TensorSpec } from './checkpoint/safetensors_writer.js';
export { asSamebitsFile, openSamebitsFile, SamebitsFile } from './checkpoint/samebits_file.js';
export { type PlainTensor, type SamebitsContent, writeSamebitsFile } from './checkpoint/samebits_writer.js';
export {
  type SelectedTensor,
  type SelectedWeight,
  type Selection,
  type SelectionOptions,
  selectTensors,
} from './checkpoint/selection.js';
export { discardingSink, MemorySink, type RandomAccessSink } from './checkpoint/sink.js';
export {
  checkRange,
  memoryFolder,
  memorySource,
  type RandomAccessSource,
  type SourceFolder,
} from './checkpoint/source.js';
export { isTagged } from './checkpoint/tag.js';
export type { ModelTensor, TensorFile } from './checkpoint/tensor_file.js';
export type { WeightChange } from './checkpoint/weight_change.js';
export { CoalescedInt4Tensor } from './coalesced_int4_tensor.js';
export { COALESCED_LAYOUT, type CoalescedInt4Parts, type FormParts } from './coalesced_parts.js';
export { CpuBackend } from './cpu_backend.js';
export { dequantize, dequantizeAndMultiply } from './dequantize.js';
export { type ErrorCode, type ErrorDetails, SamebitsError } from './errors.js';
export { describeForm, type FormKind, type Groups, type HalfDtype, STEP_SIZE, type WeightForm } from './forms.js';
export { Int4Tensor } from './int4_tensor.js';
export { BLOCK_SIZE, MAX_K, MAX_M, MAX_N, MAX_WEIGHT_EXPONENT, MAX_ZERO_POINT, type WeightShape } from './limits.js';
export { type Activations, linear } from './linear.js';
export { type ChatMessage, type ChatSources, ChatTemplate } from './model/chat_template.js';
export type { DecoderSource, DeviceCache, DeviceDecoder, LoadOptions, StepResult } from './model/decoder_backend.js';
export type { DecoderConfig, LayerConfig } from './model/decoder_config.js';
export {
  type GeneratedToken,
  Generation,
  type GenerationEnd,
  type GenerationOptions,
  type GenerationTimes,
  type PickToken,
  type TextSession,
} from './model/generate.js';
export type { SamplingOptions } from './model/sampling.js';
export type { AppendOptions, DecoderSession } from './model/session.js';
export type { LinearName, VectorName } from './model/step.js';
export { TextModel, type TextOptions } from './model/text_model.js';
export { TextModelFile } from './model/text_model_file.js';
export { TextStream } from './model/text_stream.js';
export { TextTokenizer } from './model/text_tokenizer.js';
export {
  type ActivationKind,
  CASES,
  drawActivations,
  drawWeight,
  type ParityCase,
  type WeightKind,
} from './parity/cases.js';
export { type BitDifference, firstDifference, formatDifference } from './parity/compare.js';
export { type DecodeResult, type DecodeRun, decodeRun, decodeRuns, decodeTogether } from './parity/decode_runs.js';
export { outputDigest } from './parity/digest.js';
export { DRAWN_CONFIG, drawDecoderSource } from './parity/drawn_decoder.js';
export { drawFormWeight, FORM_CASES, type FormCase, type FormWeightKind } from './parity/form_cases.js';
export { Random } from './parity/random.js';
export {
  fileInputs,
  type ParityInput,
  type ParityOutcome,
  type ParityResult,
  VERIFY_ROWS,
  verifyWeight,
} from './parity/verify.js';
export { type QuantizeOptions, quantizeInt4 } from './quantize.js';
export { int4PlainMM, type OutputType } from './reference.js';
export type { Int4Parts, Operand, ScaleLayout } from './validate.js';
