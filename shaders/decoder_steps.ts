// The operations of a step as dispatches: what follows each other and reads the same x goes side by side, and what makes an
// x leaves it as the codes that linears read. What belongs to a cache is named, and filled in by the cache.

import type { StepResult } from '../core/model/decoder_backend.js';
import { type DecoderConfig, TOKENS_PER_STEP } from '../core/model/decoder_config.js';
import { type Operation, stepOperations } from '../core/model/step.js';
import {
  CAP_VALUES_PER_WORKGROUP,
  DECODER_KERNELS,
  EMBED_PAIRS_PER_WORKGROUP,
  GELU_VALUES_PER_WORKGROUP,
} from './decoder_kernels.js';
import type { DecoderValues } from './decoder_values.js';
import type { DecoderWeights } from './decoder_weights.js';
import { bind, type Dispatch, linearKernels, MAX_WORKGROUPS, matmulDispatches } from './dispatches.js';
import type { CompiledKernel, Pipelines } from './pipelines.js';
import type { StepInputs } from './step_inputs.js';
import { f32, UniformSlots, u32, uniformAt } from './uniform_slots.js';
import type { Workspaces } from './workspace.js';

/** A dispatch that every cache shares, or an operation that each has its own dispatches for. */
export type StepItem =
  | { readonly kind: Operation['kind']; readonly dispatch: Dispatch }
  | { readonly kind: 'heads' | 'attention'; readonly layer: number };

type NormOperation = Extract<Operation, { kind: 'norm' }>;
type LinearOperation = Extract<Operation, { kind: 'linear' }>;

/** An operation other than a linear, and where it stands in the list. */
interface Single {
  readonly operation: Exclude<Operation, { kind: 'linear' }>;
  readonly index: number;
}

export interface DecoderParts {
  readonly pipelines: Pipelines;
  readonly workspaces: Workspaces;
  readonly config: DecoderConfig;
  readonly weights: DecoderWeights;
  readonly values: DecoderValues;
  readonly inputs: StepInputs;
  readonly inputsBuffer: GPUBuffer;
}

/** Steps of one decoder, made once for each number of tokens and each result. */
export class DecoderSteps {
  readonly #steps = new Map<string, Promise<readonly StepItem[]>>();
  readonly #operations: readonly Operation[];
  /** Slots of the uniform of each norm, for each first row that it may have. */
  readonly #normSlots = new Map<string, number>();
  /** Of each slice of the embedding. */
  readonly #embedSlots: readonly number[];
  readonly #geluSlot: number;
  readonly #argMaxSlot: number;
  /** Of soft_cap for 1 .. TOKENS_PER_STEP rows. */
  readonly #capSlots: readonly number[];
  readonly #uniforms: GPUBuffer;

  /** Call inside an error scope. */
  constructor(readonly parts: DecoderParts) {
    const { config, weights, pipelines } = parts;
    const { hiddenSize, vocabularySize, intermediateSize, rmsNormEpsilon, softCap } = config;
    const slots = new UniformSlots();
    this.#operations = stepOperations(config, true);
    for (const [index, operation] of this.#operations.entries()) {
      if (operation.kind !== 'norm') continue;
      const { branch, next } = operation;
      const scalar = branch?.isScaled ? weights.layerScalar(branch.layer) : 1;
      // The last norm may be wanted of the last token alone.
      const firstRows = next.layer === null ? TOKENS_PER_STEP : 1;
      const laterWords = this.#termWords(laterReader(this.#operations, index));
      for (let firstRow = 0; firstRow < firstRows; firstRow++) {
        const zero = 0;
        const slot = slots.add(
          u32(hiddenSize),
          f32(1 / hiddenSize),
          f32(rmsNormEpsilon),
          f32(scalar),
          u32(firstRow),
          u32(laterWords),
          u32(zero),
        );
        this.#normSlots.set(normKey(operation, firstRow), slot);
      }
    }
    this.#embedSlots = weights.embedding.map(({ first, count }) =>
      slots.add(u32(hiddenSize / 2), f32(Math.sqrt(hiddenSize)), u32(first), u32(count)),
    );
    this.#geluSlot = slots.add(u32(intermediateSize), u32(0));
    this.#argMaxSlot = slots.add(u32(vocabularySize));
    const cap = softCap ?? 1;
    this.#capSlots = Array.from({ length: TOKENS_PER_STEP }, (_, i) =>
      slots.add(u32((i + 1) * vocabularySize), f32(cap), f32(2 / cap), u32(0)),
    );
    this.#uniforms = slots.create(pipelines.guard.device, "a decoder's uniforms");
  }

  get sizeBytes(): number {
    return this.#uniforms.size;
  }

  dispose(): void {
    this.#uniforms.destroy();
  }

  /** A step of m tokens, compiled and bound. */
  get(m: number, wants: StepResult['wants']): Promise<readonly StepItem[]> {
    const key = `${m} ${wants}`;
    let items = this.#steps.get(key);
    if (items === undefined) {
      items = this.#make(m, wants);
      this.#steps.set(key, items);
      items.catch(() => this.#steps.delete(key));
    }
    return items;
  }

  /** Rows of logits that a result takes. */
  static logitRows(m: number, wants: StepResult['wants']): number {
    return wants === 'everyLogit' ? m : 1;
  }

  async #make(m: number, wants: StepResult['wants']): Promise<readonly StepItem[]> {
    const operations = wants === 'nothing' ? stepOperations(this.parts.config, false) : this.#operations;
    const groups = groupLinears(operations);
    const items = await Promise.all(
      groups.map(({ linears, single }) =>
        single === null ? this.#linears(linears, m, wants) : this.#single(single, m, wants),
      ),
    );
    if (wants === 'greedy') items.push(await this.#argMax());
    return items.flat();
  }

  async #single({ operation, index }: Single, m: number, wants: StepResult['wants']): Promise<StepItem[]> {
    const { values, config } = this.parts;
    switch (operation.kind) {
      case 'embed':
        return this.#embed(m);
      case 'norm':
        return [await this.#norm(operation, index, m, wants)];
      case 'heads':
      case 'attention':
        return [{ kind: operation.kind, layer: operation.layer }];
      case 'gelu': {
        const kernel = await this.#compile(DECODER_KERNELS.gatedGelu, {
          RUN_SIZE: this.#runSize(readerAfter(this.#operations, index)),
        });
        const { codes, runTerms } = values.gated;
        const workgroups = Math.ceil(config.intermediateSize / GELU_VALUES_PER_WORKGROUP);
        return [
          this.#item('gelu', kernel, [values.gate, values.up, codes, runTerms], this.#geluSlot, [workgroups, m, 1]),
        ];
      }
      case 'softCap': {
        const kernel = await this.#compile(DECODER_KERNELS.softCap, {});
        const rows = DecoderSteps.logitRows(m, wants);
        const workgroups = Math.min(
          MAX_WORKGROUPS,
          Math.ceil((rows * config.vocabularySize) / CAP_VALUES_PER_WORKGROUP),
        );
        return [this.#item('softCap', kernel, [values.logits], this.#capSlots[rows - 1]!, [workgroups, 1, 1])];
      }
    }
  }

  async #embed(m: number): Promise<StepItem[]> {
    const { values, weights, config, inputs, inputsBuffer } = this.parts;
    const kernel = await this.#compile(DECODER_KERNELS.embedTokens, {});
    const workgroups = Math.ceil(config.hiddenSize / 2 / EMBED_PAIRS_PER_WORKGROUP);
    const step = inputs.step(inputsBuffer);
    return weights.embedding.map(({ rows }, i) =>
      this.#item('embed', kernel, [rows, values.token, values.hidden, step], this.#embedSlots[i]!, [workgroups, m, 1]),
    );
  }

  async #norm(operation: NormOperation, index: number, m: number, wants: StepResult['wants']): Promise<StepItem> {
    const { values, weights } = this.parts;
    const { branch, next } = operation;
    const isLast = next.layer === null;
    const rows = isLast ? DecoderSteps.logitRows(m, wants) : m;
    const nextWeight = weights.vector(next.norm, next.layer);
    const branchWeight = branch ? weights.vector(branch.norm, branch.layer) : nextWeight;
    const kernel = await this.#compile(DECODER_KERNELS.rmsNorm, {
      HAS_BRANCH: Number(branch !== null),
      RUN_SIZE: this.#runSize(readerAfter(this.#operations, index)),
    });
    const bindings = [values.y, values.hidden, branchWeight, nextWeight, values.x.codes, values.x.runTerms];
    const slot = this.#normSlots.get(normKey(operation, m - rows))!;
    const later = values[laterReader(this.#operations, index).x].runTerms;
    return this.#item('norm', kernel, [...bindings, later], slot, [rows, 1, 1]);
  }

  /** Linears on one x. */
  async #linears(operations: readonly LinearOperation[], m: number, wants: StepResult['wants']): Promise<StepItem[]> {
    const { pipelines, workspaces, weights, values } = this.parts;
    const linears = operations.map(({ linear, layer, y }) => ({
      weight: weights.linear(linear, layer),
      y: { buffer: values[y] },
      m: linear === 'head' ? DecoderSteps.logitRows(m, wants) : m,
      outputType: 'f32' as const,
    }));
    const kernels = await linearKernels(pipelines, workspaces, linears);
    const group = { linears, activations: values[operations[0]!.x], quantizedY: null };
    const dispatches = await pipelines.guard.run('the linears of a decoder', () =>
      matmulDispatches(pipelines, kernels, group),
    );
    return dispatches.map((dispatch) => ({ kind: 'linear', dispatch }));
  }

  /** Counted with the soft cap, the last of the operations. */
  async #argMax(): Promise<StepItem[]> {
    const { values } = this.parts;
    const kernel = await this.#compile(DECODER_KERNELS.argMax, {});
    return [this.#item('softCap', kernel, [values.logits, values.token], this.#argMaxSlot, [1, 1, 1])];
  }

  #compile(source: Parameters<Pipelines['compile']>[0], constants: Record<string, number>): Promise<CompiledKernel> {
    return this.parts.pipelines.compile(source, constants);
  }

  #item(
    kind: Operation['kind'],
    { pipeline, bindGroupLayout }: CompiledKernel,
    before: readonly (GPUBuffer | GPUBufferBinding)[],
    slot: number,
    workgroups: Dispatch['workgroups'],
  ): StepItem {
    const bindings = before.map((binding) => ('buffer' in binding ? binding : { buffer: binding }));
    const { device } = this.parts.pipelines.guard;
    const bindGroup = bind(device, bindGroupLayout, [...bindings, uniformAt(this.#uniforms, slot)]);
    return { kind, dispatch: { pipeline, bindGroup, workgroups } };
  }

  #runSize({ linear, layer }: LinearOperation): number {
    return this.parts.weights.linear(linear, layer).runSize;
  }

  /** Words between the rows of run terms that a linear reads. */
  #termWords(reader: LinearOperation): number {
    const { k, runSize } = this.parts.weights.linear(reader.linear, reader.layer);
    return 2 * (1 + k / runSize);
  }
}

function normKey({ next }: NormOperation, firstRow: number): string {
  return `${next.layer} ${next.norm} ${firstRow}`;
}

/** The linear that reads what operation `index` makes. */
function readerAfter(operations: readonly Operation[], index: number): LinearOperation {
  return operations.slice(index + 1).find(isLinear)!;
}

/**
 * The linear that reads the codes which come to be after those of a norm, by kernels of many workgroups. After the last norm
 * there are none; the first ones are cleared once more.
 */
function laterReader(operations: readonly Operation[], index: number): LinearOperation {
  const isLater = (operation: Operation): operation is LinearOperation => isLinear(operation) && operation.x !== 'x';
  return operations.slice(index + 1).find(isLater) ?? operations.find(isLater)!;
}

function isLinear(operation: Operation): operation is LinearOperation {
  return operation.kind === 'linear';
}

/** Linears on one x, or another operation. */
interface Group {
  readonly linears: LinearOperation[];
  readonly single: Single | null;
}

function groupLinears(operations: readonly Operation[]): Group[] {
  const groups: Group[] = [];
  for (const [index, operation] of operations.entries()) {
    const last = groups.at(-1);
    if (operation.kind !== 'linear') groups.push({ linears: [], single: { operation, index } });
    else if (last?.linears[0]?.x === operation.x) last.linears.push(operation);
    else groups.push({ linears: [operation], single: null });
  }
  return groups;
}
