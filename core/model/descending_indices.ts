// The indices of values from the largest on, one at a time: a few of many cost little more than one look at each.

/** A heap of indices whose first is that of the largest value, the lowest among equals. */
export class DescendingIndices {
  readonly #heap: Int32Array;
  #length: number;

  /** @param indices of `values`, none of which is NaN; kept and reordered */
  constructor(
    private readonly values: Float32Array,
    indices: Int32Array,
  ) {
    this.#heap = indices;
    this.#length = indices.length;
    for (let i = (this.#length >> 1) - 1; i >= 0; i--) this.#sink(i);
  }

  /** The next index, or undefined after the last. */
  next(): number | undefined {
    if (this.#length === 0) return undefined;
    const first = this.#heap[0]!;
    this.#heap[0] = this.#heap[--this.#length]!;
    this.#sink(0);
    return first;
  }

  #isBefore(a: number, b: number): boolean {
    const difference = this.values[a]! - this.values[b]!;
    return difference > 0 || (difference === 0 && a < b);
  }

  #sink(from: number): void {
    const heap = this.#heap;
    const index = heap[from]!;
    let at = from;
    for (let child = 2 * at + 1; child < this.#length; child = 2 * at + 1) {
      if (child + 1 < this.#length && this.#isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#isBefore(heap[child]!, index)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = index;
  }
}
