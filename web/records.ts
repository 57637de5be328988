// Recorded CUDA runs that ship with the page, and whether they are of the kernels that the page was built with.

/** A file of tests/data/records. */
export interface CudaRecord {
  readonly device: string;
  readonly driver: string;
  readonly recordedAt: string;
  readonly cudaSourcesSha256: string;
  readonly shaderSourcesSha256: string;
  /** By name of the input: the digest of the output bits, and the backends that gave them. */
  readonly cases: Readonly<Record<string, { readonly sha256: string; readonly backends: readonly string[] }>>;
}

/** Records of the CUDA kernels of this build; one of older kernels says nothing about them. */
export const RECORDS: readonly CudaRecord[] = Object.values(
  import.meta.glob<CudaRecord>('../tests/data/records/*.json', { eager: true, import: 'default' }),
).filter(({ cudaSourcesSha256 }) => cudaSourcesSha256 === __CUDA_SOURCES_SHA256__);

/** The digest that a recorded CUDA run gave for an input; undefined when it did not run it. */
export function recordedDigest(record: CudaRecord, input: string): string | undefined {
  const entry = record.cases[input];
  return entry?.backends.includes('cuda') ? entry.sha256 : undefined;
}
