// Every public function that takes no device, called with what it does not take: a typed error, never a wrong number or a
// TypeError. What backends take is in tests/parity/abuse_arguments.test.ts.

import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { defaultParts } from '../../core/coalesced_parts.js';
import * as samebits from '../../core/index.js';
import * as node from '../../node/index.js';
import * as web from '../../web/index.js';

const { CoalescedInt4Tensor, Int4Tensor, quantizeInt4, SamebitsError } = samebits;
type ErrorCode = samebits.ErrorCode;

const untyped = (value: unknown): never => value as never;
const detached = <T extends Uint8Array | Uint16Array | Float32Array>(array: T): T => {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
  return array;
};

const PRIMITIVES = [null, 0, -1, 0.5, Number.NaN, Infinity, 2 ** 31, 2 ** 53, 'text', '', true, Symbol.iterator, 1n];
const NOTHING = [undefined, ...PRIMITIVES];
const ARRAYS = [
  new ArrayBuffer(64),
  new DataView(new ArrayBuffer(64)),
  new Uint8Array(64),
  new Uint8ClampedArray(64),
  new Int8Array(64),
  new Uint16Array(64),
  new Int16Array(64),
  new Uint32Array(64),
  new Float32Array(64),
  new Float64Array(64),
  new BigInt64Array(64),
];
const OBJECTS = [{}, [], [1, 2], { length: 64 }, new Map(), new Set(), new Date(0), () => 1];
const ANYTHING = [...NOTHING, ...ARRAYS, ...OBJECTS];
const except = (...types: readonly (abstract new (...args: never[]) => object)[]) =>
  ANYTHING.filter((value) => !types.some((type) => value instanceof type));
/** What is no positive integer that a shape could have. */
const NOT_SIZES = [...NOTHING, ...OBJECTS, '32', [32], 32n, Infinity];

const shape = { n: 2, k: 32, groupSize: 32 };
const values = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i));
const native = quantizeInt4(values, shape);
const weight = CoalescedInt4Tensor.fromInt4Tensor(native);
const x = new Uint16Array(32).fill(0x3f80);
const f32 = new Float32Array([1, 2]);
const bf16 = new Uint16Array(2);
const written = new samebits.MemorySink();
await samebits.writeSamebitsFile(written, { weights: new Map([['w', weight]]) });
const source = () => samebits.memorySource(written.bytes.slice());
const file = await samebits.openSafetensors(source());
const packed = samebits.asSamebitsFile(file);
const folder = samebits.memoryFolder(new Map([['model.safetensors', written.bytes.slice()]]));
const model = await samebits.openModelCheckpoint(folder);
const plain = { name: 'p', dtype: 'U8', shape: [64], data: new Uint8Array(64) } as const;
const write = (content: unknown) => samebits.writeSamebitsFile(new samebits.MemorySink(), untyped(content));
const withPart = (part: 'qdata' | 'scale' | 'zeroPoint', change: object) => {
  const parts = native.parts();
  return new Int4Tensor({ ...parts, [part]: { ...parts[part], ...change } });
};

interface Entry {
  readonly what: string;
  readonly codes: readonly ErrorCode[];
  readonly good: unknown;
  readonly bad: readonly unknown[];
  readonly call: (value: never) => unknown;
}

/** All of an asynchronous generator. */
async function drain(generator: AsyncGenerator<unknown>): Promise<void> {
  for await (const _ of generator);
}

// biome-ignore format: a table
const ENTRIES: readonly Entry[] = [
  { what: 'bf16FromF32Array', codes: ['DTYPE_MISMATCH'], good: f32, bad: except(Float32Array), call: (v) => samebits.bf16FromF32Array(v) },
  { what: 'quantizeInt4: weights', codes: ['DTYPE_MISMATCH'], good: values, bad: except(Float32Array, Uint16Array), call: (v) => quantizeInt4(v, shape) },
  { what: 'quantizeInt4: weights of a wrong length', codes: ['INPUT_LENGTH_MISMATCH'], good: new Uint16Array(64), bad: [new Float32Array(63), new Uint16Array(65), new Uint16Array(0), detached(new Float32Array(64)), detached(new Uint16Array(64))], call: (v) => quantizeInt4(v, shape) },
  { what: 'quantizeInt4: options', codes: ['ARGUMENT_INVALID', 'N_UNSUPPORTED'], good: shape, bad: ANYTHING, call: (v) => quantizeInt4(values, v) },
  { what: 'quantizeInt4: n', codes: ['N_UNSUPPORTED', 'INPUT_LENGTH_MISMATCH'], good: 2, bad: NOT_SIZES, call: (v) => quantizeInt4(values, { ...shape, n: v }) },
  { what: 'quantizeInt4: k', codes: ['K_UNSUPPORTED'], good: 32, bad: NOT_SIZES, call: (v) => quantizeInt4(values, { ...shape, k: v }) },
  { what: 'quantizeInt4: groupSize', codes: ['GROUP_SIZE_UNSUPPORTED'], good: 16, bad: NOT_SIZES, call: (v) => quantizeInt4(values, { ...shape, groupSize: v }) },
  { what: 'quantizeInt4: symmetric', codes: ['ARGUMENT_INVALID'], good: undefined, bad: ANYTHING.filter((v) => v !== undefined && v !== true), call: (v) => quantizeInt4(values, { ...shape, symmetric: v }) },
  { what: 'Int4Tensor', codes: ['DTYPE_MISMATCH'], good: native.parts(), bad: ANYTHING, call: (v) => new Int4Tensor(v) },
  { what: 'CoalescedInt4Tensor', codes: ['LAYOUT_WRONG_TYPE'], good: weight.parts(), bad: [...ANYTHING, native, native.parts(), weight], call: (v) => new CoalescedInt4Tensor(v) },
  { what: 'fromInt4Tensor', codes: ['LAYOUT_WRONG_TYPE'], good: native, bad: [...ANYTHING, native.parts(), weight], call: (v) => CoalescedInt4Tensor.fromInt4Tensor(v) },
  { what: 'a group size', codes: ['GROUP_SIZE_UNSUPPORTED'], good: 32, bad: NOT_SIZES, call: (v) => new Int4Tensor({ ...native.parts(), groupSize: v }) },
  ...(['qdata', 'scale', 'zeroPoint'] as const).flatMap((part): readonly Entry[] => {
    const parts = native.parts()[part];
    const { length } = parts.data;
    return [
      { what: part, codes: ['DTYPE_MISMATCH'], good: parts, bad: ANYTHING, call: (v) => new Int4Tensor({ ...native.parts(), [part]: v }) },
      { what: `${part}: dtype`, codes: ['DTYPE_MISMATCH'], good: parts.dtype, bad: ANYTHING, call: (dtype) => withPart(part, { dtype }) },
      { what: `${part}: shape`, codes: ['SHAPE_MISMATCH'], good: parts.shape, bad: [...except(Array), [], [1], [1, 2, 3], ['1', '2'], [1n, 2n], [Symbol.iterator, 1], [null, null], [[1], [2]]], call: (v) => withPart(part, { shape: v }) },
      { what: `${part}: numbers of its shape`, codes: ['SHAPE_MISMATCH', 'N_UNSUPPORTED', 'K_UNSUPPORTED', 'LAYOUT_NATIVE_SCALE'], good: parts.shape, bad: [0, -1, 0.5, Number.NaN, Infinity, 2 ** 31, 2 ** 53].map((d) => [d, d]), call: (v) => withPart(part, { shape: v }) },
      { what: `${part}: data`, codes: ['DTYPE_MISMATCH'], good: parts.data, bad: part === 'qdata' ? except(Uint8Array) : except(Uint16Array), call: (data) => withPart(part, { data }) },
      { what: `${part}: data of a wrong length`, codes: ['BYTE_LENGTH_MISMATCH'], good: parts.data, bad: [length + 1, length - 1, 0].map((some) => parts.data instanceof Uint8Array ? new Uint8Array(some) : new Uint16Array(some)).concat([detached(parts.data.slice())]), call: (data) => withPart(part, { data }) },
    ];
  }),
  { what: 'dequantize', codes: ['LAYOUT_WRONG_TYPE'], good: weight, bad: [...ANYTHING, native.parts(), weight.parts()], call: (v) => samebits.dequantize(v) },
  { what: 'dequantizeAndMultiply: x', codes: ['DTYPE_MISMATCH'], good: new Float32Array(32), bad: except(Float32Array), call: (v) => samebits.dequantizeAndMultiply(v, native) },
  { what: 'dequantizeAndMultiply: weight', codes: ['LAYOUT_WRONG_TYPE'], good: native, bad: ANYTHING, call: (v) => samebits.dequantizeAndMultiply(new Float32Array(32), v) },
  { what: 'linear: x', codes: ['DTYPE_MISMATCH'], good: x, bad: except(Float32Array, Uint16Array), call: (v) => samebits.linear(v, weight) },
  { what: 'linear: x, by an Int4Tensor', codes: ['DTYPE_MISMATCH'], good: x, bad: except(Float32Array, Uint16Array), call: (v) => samebits.linear(v, native) },
  { what: 'linear: weight', codes: ['LAYOUT_WRONG_TYPE'], good: native, bad: ANYTHING, call: (v) => samebits.linear(x, v) },
  { what: 'int4PlainMM: x', codes: ['DTYPE_MISMATCH'], good: x, bad: except(Uint16Array), call: (v) => samebits.int4PlainMM(v, weight) },
  { what: 'int4PlainMM: x of a wrong length', codes: ['INPUT_LENGTH_MISMATCH'], good: x, bad: [new Uint16Array(0), new Uint16Array(31), detached(new Uint16Array(32))], call: (v) => samebits.int4PlainMM(v, weight) },
  { what: 'int4PlainMM: weight', codes: ['LAYOUT_WRONG_TYPE'], good: weight, bad: [...ANYTHING, native, weight.parts()], call: (v) => samebits.int4PlainMM(x, v) },
  { what: 'int4PlainMM: output type', codes: ['ARGUMENT_INVALID'], good: 'bf16', bad: [...PRIMITIVES, ...OBJECTS, 'f16'], call: (v) => samebits.int4PlainMM(x, weight, v) },

  { what: 'firstDifference: expected', codes: ['DTYPE_MISMATCH'], good: f32, bad: except(Float32Array, Uint16Array), call: (v) => samebits.firstDifference(v, f32, 2) },
  { what: 'firstDifference: actual', codes: ['DTYPE_MISMATCH'], good: f32, bad: except(Float32Array, Uint16Array), call: (v) => samebits.firstDifference(f32, v, 2) },
  { what: 'firstDifference: n', codes: ['ARGUMENT_INVALID'], good: 2, bad: [undefined, null, 0, -1, 0.5, Number.NaN, Infinity, '2', 2n, {}], call: (v) => samebits.firstDifference(f32, f32, v) },
  { what: 'formatDifference', codes: ['ARGUMENT_INVALID'], good: { m: 0, n: 0, expected: '0x0', actual: '0x1', count: 1 }, bad: NOTHING, call: (v) => samebits.formatDifference(v) },
  { what: 'outputDigest: f32', codes: ['DTYPE_MISMATCH'], good: f32, bad: except(Float32Array), call: (v) => samebits.outputDigest(v, bf16) },
  { what: 'outputDigest: bf16', codes: ['DTYPE_MISMATCH'], good: bf16, bad: except(Uint16Array), call: (v) => samebits.outputDigest(f32, v) },
  { what: 'Random', codes: ['ARGUMENT_INVALID'], good: 1, bad: [undefined, null, Number.NaN, Infinity, '1', 1n, {}, Symbol.iterator], call: (v) => new samebits.Random(v) },
  { what: 'Random.named', codes: ['ARGUMENT_INVALID'], good: '', bad: ANYTHING.filter((v) => typeof v !== 'string'), call: (v) => samebits.Random.named(v) },
  { what: 'Random.fillBytes', codes: ['DTYPE_MISMATCH'], good: new Uint8Array(7), bad: except(Uint8Array), call: (v) => new samebits.Random(1).fillBytes(v) },
  { what: 'drawWeight', codes: ['ARGUMENT_INVALID', 'N_UNSUPPORTED'], good: samebits.CASES[0], bad: ANYTHING, call: (v) => samebits.drawWeight(v) },
  { what: 'drawActivations', codes: ['ARGUMENT_INVALID', 'M_UNSUPPORTED'], good: samebits.CASES[0], bad: ANYTHING, call: (v) => samebits.drawActivations(v) },
  { what: 'fileInputs: k', codes: ['K_UNSUPPORTED'], good: 32, bad: NOT_SIZES, call: (v) => samebits.fileInputs('w', v) },
  { what: 'fileInputs: rows', codes: ['ARGUMENT_INVALID', 'M_UNSUPPORTED'], good: [1], bad: [...PRIMITIVES, {}, [0], ['1'], [Number.NaN], [2 ** 53]], call: (v) => samebits.fileInputs('w', 32, v) },
  { what: 'verifyWeight: weight', codes: ['LAYOUT_WRONG_TYPE'], good: weight, bad: [...ANYTHING, native], call: (v) => drain(samebits.verifyWeight(v, [], [])) },
  { what: 'verifyWeight: inputs', codes: ['ARGUMENT_INVALID'], good: [], bad: except(Array), call: (v) => drain(samebits.verifyWeight(weight, v, [])) },
  { what: 'verifyWeight: backends', codes: ['ARGUMENT_INVALID'], good: [], bad: except(Array), call: (v) => drain(samebits.verifyWeight(weight, [], v)) },

  { what: 'memorySource', codes: ['DTYPE_MISMATCH'], good: new Uint8Array(4), bad: except(Uint8Array), call: (v) => samebits.memorySource(v) },
  { what: 'reading a source: offset', codes: ['FILE_TRUNCATED'], good: 0, bad: [...NOTHING.filter((v) => v !== 0), 2, '0'], call: (v) => samebits.memorySource(new Uint8Array(2)).read(v, 1) },
  { what: 'reading a source: length', codes: ['FILE_TRUNCATED'], good: 2, bad: [...NOTHING.filter((v) => v !== 0), 3, '2'], call: (v) => samebits.memorySource(new Uint8Array(2)).read(0, v) },
  { what: 'memoryFolder', codes: ['ARGUMENT_INVALID'], good: new Map(), bad: except(Map), call: (v) => samebits.memoryFolder(v) },
  { what: 'writing to a sink: offset', codes: ['ARGUMENT_INVALID'], good: 0, bad: NOTHING.filter((v) => v !== 0 && v !== 2 ** 31), call: (v) => new samebits.MemorySink().writeAt(v, new Uint8Array(1)) },
  { what: 'writing to a sink: beyond memory', codes: ['HOST_OUT_OF_MEMORY'], good: 0, bad: [2 ** 50, 2 ** 53 - 1], call: (v) => new samebits.MemorySink().writeAt(v, new Uint8Array(1)) },
  { what: 'writing to a sink: bytes', codes: ['DTYPE_MISMATCH'], good: new Uint8Array(1), bad: except(Uint8Array), call: (v) => new samebits.MemorySink().writeAt(0, v) },
  { what: 'openSafetensors', codes: ['ARGUMENT_INVALID'], good: source(), bad: ANYTHING, call: (v) => samebits.openSafetensors(v) },
  { what: 'openSamebitsFile', codes: ['ARGUMENT_INVALID'], good: source(), bad: ANYTHING, call: (v) => samebits.openSamebitsFile(v) },
  { what: 'asSamebitsFile', codes: ['ARGUMENT_INVALID'], good: file, bad: ANYTHING, call: (v) => samebits.asSamebitsFile(v) },
  { what: 'isTagged', codes: ['ARGUMENT_INVALID'], good: file, bad: ANYTHING, call: (v) => samebits.isTagged(v) },
  { what: 'SafetensorsFile.tensor', codes: ['FILE_TENSOR_MISSING'], good: 'w.qdata', bad: ANYTHING, call: (v) => file.tensor(v) },
  { what: 'SafetensorsFile.read: name', codes: ['FILE_TENSOR_MISSING'], good: 'w.qdata', bad: ANYTHING, call: (v) => file.read(v) },
  { what: 'SafetensorsFile.read: start', codes: ['FILE_TRUNCATED'], good: 32, bad: [...PRIMITIVES.filter((v) => v !== 0), 33], call: (v) => file.read('w.qdata', v) },
  { what: 'SafetensorsFile.read: length', codes: ['FILE_TRUNCATED'], good: 32, bad: [...PRIMITIVES.filter((v) => v !== 0 && v !== null), 33], call: (v) => file.read('w.qdata', 0, v) },
  { what: 'readWeight', codes: ['FILE_TENSOR_MISSING'], good: 'w', bad: ANYTHING, call: (v) => packed.readWeight(v) },
  { what: 'readPlain', codes: ['FILE_TENSOR_MISSING'], good: undefined, bad: ANYTHING, call: (v) => v === undefined || packed.readPlain(v) },
  { what: 'openModelCheckpoint: folder', codes: ['ARGUMENT_INVALID'], good: folder, bad: ANYTHING, call: (v) => samebits.openModelCheckpoint(v) },
  { what: 'openModelCheckpoint: entry', codes: ['FILE_UNREADABLE'], good: 'model.safetensors', bad: ANYTHING.filter((v) => v !== undefined && v !== null), call: (v) => samebits.openModelCheckpoint(folder, v) },
  { what: 'selectTensors: model', codes: ['ARGUMENT_INVALID'], good: model, bad: ANYTHING, call: (v) => samebits.selectTensors(v) },
  { what: 'selectTensors: options', codes: ['ARGUMENT_INVALID'], good: {}, bad: PRIMITIVES, call: (v) => samebits.selectTensors(model, v) },
  { what: 'planConversion: model', codes: ['ARGUMENT_INVALID', 'FILE_FORMAT_UNSUPPORTED'], good: undefined, bad: [...ANYTHING, model], call: (v) => v === undefined || samebits.planConversion(v) },
  { what: 'runConversion: plan', codes: ['ARGUMENT_INVALID'], good: undefined, bad: ANYTHING, call: (v) => v === undefined || samebits.runConversion(v, samebits.discardingSink) },
  { what: 'measureAccuracy', codes: ['ARGUMENT_INVALID'], good: model, bad: ANYTHING, call: (v) => drain(samebits.measureAccuracy(v)) },
  { what: 'dequantizedSource: model', codes: ['ARGUMENT_INVALID'], good: model, bad: ANYTHING, call: (v) => samebits.dequantizedSource(v, 'w') },
  { what: 'dequantizedSource: name', codes: ['FILE_TENSOR_MISSING'], good: 'w', bad: ANYTHING, call: (v) => samebits.dequantizedSource(model, v) },
  { what: 'dequantizedSource: options', codes: ['ARGUMENT_INVALID'], good: {}, bad: PRIMITIVES, call: (v) => samebits.dequantizedSource(model, 'w', v) },
  { what: 'writeSamebitsFile: sink', codes: ['ARGUMENT_INVALID'], good: new samebits.MemorySink(), bad: ANYTHING, call: (v) => samebits.writeSamebitsFile(v, { weights: new Map() }) },
  { what: 'writeSamebitsFile: content', codes: ['ARGUMENT_INVALID'], good: { weights: new Map() }, bad: ANYTHING, call: write },
  { what: 'writeSamebitsFile: weights', codes: ['ARGUMENT_INVALID'], good: new Map(), bad: except(Map), call: (weights) => write({ weights }) },
  { what: 'writeSamebitsFile: a weight', codes: ['LAYOUT_WRONG_TYPE'], good: weight, bad: [...ANYTHING, native, weight.parts()], call: (v) => write({ weights: new Map([['w', v]]) }) },
  { what: 'writeSamebitsFile: its name', codes: ['ARGUMENT_INVALID'], good: 'w', bad: ANYTHING.filter((v) => typeof v !== 'string'), call: (v) => write({ weights: new Map([[v, weight]]) }) },
  { what: 'writeSamebitsFile: plain tensors', codes: ['ARGUMENT_INVALID'], good: [plain], bad: [...PRIMITIVES, ...ARRAYS, {}, [1, 2], [null], [{}]], call: (plainTensors) => write({ weights: new Map(), plainTensors }) },
  ...(['name', 'dtype', 'shape'] as const).map((field): Entry => ({
    what: `writeSamebitsFile: ${field} of a plain tensor`, codes: ['ARGUMENT_INVALID'], good: plain[field],
    bad: [...NOTHING.filter((v) => field !== 'name' || typeof v !== 'string'), {}], call: (v) => write({ weights: new Map(), plainTensors: [{ ...plain, [field]: v }] }),
  })),
  { what: 'writeSamebitsFile: data', codes: ['DTYPE_MISMATCH', 'ARGUMENT_INVALID'], good: plain.data, bad: [...except(Uint8Array), new Uint8Array(63), detached(new Uint8Array(64))], call: (data) => write({ weights: new Map(), plainTensors: [{ ...plain, data }] }) },
  { what: 'writeSamebitsFile: convertedFrom', codes: ['ARGUMENT_INVALID'], good: 'hf:bf16', bad: ANYTHING.filter((v) => v !== undefined && typeof v !== 'string'), call: (convertedFrom) => write({ weights: new Map(), convertedFrom }) },

  { what: 'openBackend in Node', codes: ['ARGUMENT_INVALID'], good: 'cpu', bad: [...PRIMITIVES, ...ARRAYS, ...OBJECTS], call: (v) => node.openBackend(v) },
  { what: 'openBackend in a browser', codes: ['ARGUMENT_INVALID'], good: 'cpu', bad: [...PRIMITIVES, ...ARRAYS, ...OBJECTS, 'cuda'], call: (v) => web.openBackend(v) },
  { what: 'WebGPUBackend.create', codes: ['ARGUMENT_INVALID'], good: undefined, bad: [...PRIMITIVES, ...ARRAYS, ...OBJECTS], call: (v) => v === undefined || node.WebGPUBackend.create(v) },
  { what: 'describeAdapter', codes: ['ARGUMENT_INVALID'], good: {}, bad: NOTHING, call: (v) => node.describeAdapter(v) },
  { what: 'deviceDescriptor', codes: ['ARGUMENT_INVALID'], good: { limits: {}, features: new Set() }, bad: ANYTHING, call: (v) => node.deviceDescriptor(v) },
  { what: 'CudaBackend.open', codes: ['ARGUMENT_INVALID'], good: undefined, bad: PRIMITIVES, call: (v) => v === undefined || node.CudaBackend.open(v) },
  { what: 'openDawnBackend: adapter', codes: ['ARGUMENT_INVALID'], good: undefined, bad: [...PRIMITIVES, ...OBJECTS], call: (v) => v === undefined || node.openDawnBackend([], { adapter: v }) },
  { what: 'openFileSource', codes: ['FILE_UNREADABLE'], good: import.meta.filename, bad: ANYTHING, call: async (v) => (await node.openFileSource(v)).close() },
  { what: 'fileFolder', codes: ['FILE_UNREADABLE'], good: '.', bad: ANYTHING.filter((v) => typeof v !== 'string'), call: (v) => node.fileFolder(v) },
  { what: 'convertFile: source', codes: ['FILE_UNREADABLE'], good: undefined, bad: ANYTHING, call: (v) => v === undefined || node.convertFile(v, '/nonexistent/out') },
];

/** The code of what a call refuses with; what it gave or threw instead, in words. */
async function outcomeOf(call: () => unknown): Promise<string> {
  try {
    return `gave ${inspect(await call(), { depth: 0 })}`;
  } catch (error) {
    return error instanceof SamebitsError ? error.code : `threw ${String(error)}`;
  }
}

describe(`${ENTRIES.reduce((sum, { bad }) => sum + bad.length, 0)} wrong arguments of ${ENTRIES.length} parameters`, () => {
  test.each(ENTRIES.map((entry) => [entry.what, entry] as const))('%s', async (_, { codes, good, bad, call }) => {
    expect(await outcomeOf(() => call(untyped(good)))).toMatch(/^gave /);
    const wrong: string[] = [];
    for (const value of bad) {
      if (value === undefined && good === undefined) continue;
      const outcome = await outcomeOf(() => call(untyped(value)));
      if (!codes.some((code) => code === outcome)) wrong.push(`${inspect(value, { depth: 0 })}: ${outcome}`);
    }
    expect(wrong).toEqual([]);
  });
});

describe('memory that is shared or resizable', () => {
  const copies = <T extends Uint8Array | Uint16Array | Float32Array>(array: T, make: (buffer: ArrayBufferLike) => T) =>
    [
      new SharedArrayBuffer(array.byteLength),
      Reflect.construct(ArrayBuffer, [array.byteLength, { maxByteLength: 2 * array.byteLength }]),
    ].map((buffer: ArrayBufferLike) => {
      const copy = make(buffer);
      copy.set(array);
      return copy;
    });

  test('gives the same bits in quantizeInt4, in tensors and in linear', () => {
    for (const copy of copies(values, (buffer) => new Float32Array(buffer))) {
      expect(quantizeInt4(copy, shape)).toEqual(native);
    }
    const scales = copies(defaultParts(weight, 'this test').scale.data, (buffer) => new Uint16Array(buffer));
    const inputs = copies(x, (buffer) => new Uint16Array(buffer));
    for (const [i, data] of copies(weight.qdata, (buffer) => new Uint8Array(buffer)).entries()) {
      const parts = defaultParts(weight, 'this test');
      const scale = { ...parts.scale, data: scales[i]! };
      const same = new CoalescedInt4Tensor({ ...parts, qdata: { ...parts.qdata, data }, scale });
      expect(samebits.int4PlainMM(inputs[i]!, same)).toEqual(samebits.int4PlainMM(x, weight));
    }
  });

  test('is a file like any other', async () => {
    for (const copy of copies(written.bytes, (buffer) => new Uint8Array(buffer))) {
      const opened = await samebits.openSamebitsFile(samebits.memorySource(copy));
      expect((await opened.readWeight('w')).groups.scale).toEqual(weight.groups.scale);
    }
  });
});
