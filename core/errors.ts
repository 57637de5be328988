// Every way in which samebits refuses. One class; the stable `code` says which rule was broken.

/** The stable name of a broken rule. Codes are never renamed; new ones may be added. */
export type ErrorCode =
  // shapes and types of a packed weight
  | 'LAYOUT_NATIVE_SCALE'
  | 'LAYOUT_WRONG_TYPE'
  | 'DTYPE_MISMATCH'
  | 'SHAPE_MISMATCH'
  | 'BYTE_LENGTH_MISMATCH'
  | 'N_UNSUPPORTED'
  | 'K_UNSUPPORTED'
  | 'GROUP_SIZE_UNSUPPORTED'
  | 'FORM_UNKNOWN'
  | 'FORM_UNSUPPORTED'
  // values of a packed weight
  | 'SCALE_NOT_FINITE'
  | 'ZERO_POINT_NOT_FINITE'
  | 'ZERO_POINT_OUT_OF_RANGE'
  | 'OFFSET_NOT_FINITE'
  | 'WEIGHT_EXPONENT_OUT_OF_RANGE'
  | 'WEIGHT_NOT_FINITE'
  // calls
  | 'M_UNSUPPORTED'
  | 'INPUT_LENGTH_MISMATCH'
  | 'ARGUMENT_INVALID'
  | 'DISPOSED'
  | 'BACKEND_MISMATCH'
  // models and their sessions
  | 'MODEL_CONFIG_INVALID'
  | 'MODEL_UNSUPPORTED'
  | 'CONTEXT_FULL'
  | 'SESSION_BUSY'
  // devices
  | 'BACKEND_UNAVAILABLE'
  | 'HOST_OUT_OF_MEMORY'
  | 'WEBASSEMBLY_UNAVAILABLE'
  | 'DEVICE_OUT_OF_MEMORY'
  | 'DEVICE_LIMIT'
  | 'DEVICE_LOST'
  | 'DEVICE_FAILURE'
  // files
  | 'FILE_UNREADABLE'
  | 'FILE_UNWRITABLE'
  | 'FILE_EXISTS'
  | 'FILE_TRUNCATED'
  | 'FILE_HEADER_TOO_LARGE'
  | 'FILE_HEADER_INVALID'
  | 'FILE_DUPLICATE_KEY'
  | 'FILE_OFFSETS_INVALID'
  | 'FILE_DTYPE_UNKNOWN'
  | 'FILE_LAYOUT_UNTAGGED'
  | 'FILE_LAYOUT_AMBIGUOUS'
  | 'FILE_LAYOUT_UNKNOWN'
  | 'FILE_LAYOUT_VERSION_UNKNOWN'
  | 'FILE_TENSOR_MISSING'
  | 'FILE_TENSOR_INVALID'
  | 'FILE_FORMAT_UNSUPPORTED'
  // text in and out of a model
  | 'MODEL_TOKENIZER_INVALID'
  | 'MODEL_CHAT_TEMPLATE_MISSING'
  | 'MODEL_CHAT_TEMPLATE_INVALID';

/** What a refusal says: the rule, what was expected, what came, and what to do about it. */
export interface ErrorDetails {
  /** The broken rule, one clause: `scale must be bf16[N, K/groupSize]`. */
  readonly rule: string;
  readonly expected: string;
  readonly got: string;
  /** One sentence: the call or command that mends it. */
  readonly fix: string;
  readonly cause?: unknown;
}

/** The only error class that samebits throws or rejects with. */
export class SamebitsError extends Error {
  override readonly name = 'SamebitsError';
  readonly code: ErrorCode;
  readonly rule: string;
  readonly expected: string;
  readonly got: string;
  readonly fix: string;

  constructor(code: ErrorCode, details: ErrorDetails) {
    const { rule, expected, got, fix, cause } = details;
    super(`${code}: ${rule}. Expected ${expected}; got ${got}. ${fix}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.rule = rule;
    this.expected = expected;
    this.got = got;
    this.fix = fix;
  }
}
